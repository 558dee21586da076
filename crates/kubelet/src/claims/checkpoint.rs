//! The file that says which claims are used (`dra_manager_state`), in upstream's format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::{Claim, Device, State};
use crate::checkpoint::{self, CheckpointError};

/// The file's name.
pub const NAME: &str = "dra_manager_state";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    /// A text of JSON.
    data: String,
    /// CRC 32 of that text.
    checksum: u32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Data {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: String,
    #[serde(rename = "ClaimInfoStateList")]
    claims: Option<Vec<Entry>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Empty {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ClaimUID")]
    claim_uid: String,
    claim_name: String,
    namespace: String,
    /// A set as Go writes it.
    #[serde(rename = "PodUIDs")]
    pod_uids: Option<BTreeMap<String, Empty>>,
    driver_state: Option<BTreeMap<String, Driver>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Driver {
    devices: Option<Vec<Written>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    pool_name: String,
    device_name: String,
    #[serde(rename = "ShareID")]
    share_id: Option<String>,
    request_names: Option<Vec<String>>,
    #[serde(rename = "CDIDeviceIDs")]
    cdi_device_ids: Option<Vec<String>>,
}

/// Why it is not known which claims are used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// The file cannot be read or written, or was changed.
    #[error("could not initialize checkpoint manager, please drain node and remove DRA state file, err: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// What is in it is no list of claims.
    #[error("please drain node and remove DRA state file {}: {source}", path.display())]
    Decode {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

fn sum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

fn device(written: Written) -> Device {
    Device {
        pool: written.pool_name,
        name: written.device_name,
        share: written.share_id,
        requests: written.request_names.unwrap_or_default(),
        cdi: written.cdi_device_ids.unwrap_or_default(),
    }
}

fn written(device: &Device) -> Written {
    let list = |of: &Vec<String>| Some(of.clone()).filter(|list| !list.is_empty());
    Written {
        pool_name: device.pool.clone(),
        device_name: device.name.clone(),
        share_id: device.share.clone(),
        request_names: list(&device.requests),
        cdi_device_ids: list(&device.cdi),
    }
}

/// Reads the file; `None` when there is none. Nothing in it counts as prepared: drivers are asked again.
///
/// # Errors
/// [`ClaimsError`].
pub fn read(path: &Path) -> Result<Option<State>, ClaimsError> {
    let Some(file) = checkpoint::read::<File>(path)? else { return Ok(None) };
    if sum(&file.data) != file.checksum {
        let (found, expected) = (u64::from(sum(&file.data)), u64::from(file.checksum));
        return Err(CheckpointError::Corrupt { path: path.to_owned(), found, expected }.into());
    }
    let data: Data = serde_json::from_str(&file.data)
        .map_err(|source| ClaimsError::Decode { path: path.to_owned(), source })?;
    let mut state = State::default();
    for entry in data.claims.unwrap_or_default() {
        let drivers = entry.driver_state.unwrap_or_default().into_iter();
        let devices = |driver: Driver| driver.devices.unwrap_or_default().into_iter().map(device).collect();
        state.insert(Claim {
            uid: entry.claim_uid,
            name: entry.claim_name,
            namespace: entry.namespace,
            pods: entry.pod_uids.unwrap_or_default().into_keys().collect::<BTreeSet<_>>(),
            drivers: drivers.map(|(name, driver)| (name, devices(driver))).collect(),
            is_prepared: false,
        });
    }
    Ok(Some(state))
}

/// Writes the file.
///
/// # Errors
/// [`CheckpointError`].
pub fn write(path: &Path, state: &State) -> Result<(), CheckpointError> {
    let devices = |list: &Vec<Device>| Driver {
        devices: Some(list.iter().map(written).collect::<Vec<_>>()).filter(|list| !list.is_empty()),
    };
    let entry = |claim: &Claim| Entry {
        claim_uid: claim.uid.clone(),
        claim_name: claim.name.clone(),
        namespace: claim.namespace.clone(),
        pod_uids: Some(claim.pods.iter().map(|uid| (uid.clone(), Empty {})).collect()),
        driver_state: Some(claim.drivers.iter().map(|(name, list)| (name.clone(), devices(list))).collect()),
    };
    let data = Data {
        kind: "DRACheckpoint".to_owned(),
        api_version: "checkpoint.dra.kubelet.k8s.io/v1".to_owned(),
        claims: Some(state.claims().map(entry).collect()),
    };
    let failed =
        |error: serde_json::Error| CheckpointError::Write { path: path.to_owned(), source: error.into() };
    let data = serde_json::to_string(&data).map_err(failed)?;
    checkpoint::write(path, &File { checksum: sum(&data), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_in_upstreams_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert_eq!(read(&path).unwrap(), None);
        let device =
            Device { pool: "p".into(), name: "d".into(), cdi: vec!["x.com/d=1".into()], ..Device::default() };
        let claim = Claim {
            uid: "cu".into(),
            name: "c".into(),
            namespace: "n".into(),
            pods: ["u".into()].into(),
            drivers: [("x.com".into(), vec![device]), ("y.com".into(), vec![])].into(),
            is_prepared: true,
        };
        let mut state = State::default();
        state.insert(claim.clone());
        write(&path, &state).unwrap();
        let file: File = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            file.data,
            r#"{"kind":"DRACheckpoint","apiVersion":"checkpoint.dra.kubelet.k8s.io/v1","ClaimInfoStateList":[{"ClaimUID":"cu","ClaimName":"c","Namespace":"n","PodUIDs":{"u":{}},"DriverState":{"x.com":{"Devices":[{"PoolName":"p","DeviceName":"d","ShareID":null,"RequestNames":null,"CDIDeviceIDs":["x.com/d=1"]}]},"y.com":{"Devices":null}}}]}"#
        );
        let back = read(&path).unwrap().unwrap();
        assert_eq!(back.get("n", "c"), Some(&Claim { is_prepared: false, ..claim }));
        let text = std::fs::read_to_string(&path).unwrap().replace("cu", "cv");
        std::fs::write(&path, text).unwrap();
        assert!(matches!(read(&path), Err(ClaimsError::Checkpoint(CheckpointError::Corrupt { .. }))));
    }
}
