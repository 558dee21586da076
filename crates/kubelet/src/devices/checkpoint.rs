//! The file that says who has which devices (`device-plugins/kubelet_internal_checkpoint`), in upstream's format.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::state::{Given, Resource, State};
use crate::checkpoint::{self, CheckpointError, list, map};

/// The file's name, in the folder of device plugins.
pub const NAME: &str = "kubelet_internal_checkpoint";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<BTreeMap<i64, Vec<String>>>,
    /// Base 64 of the plugin's answer.
    alloc_resp: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: Option<BTreeMap<String, Option<Vec<String>>>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    data: Data,
    checksum: u64,
}

impl Entry {
    fn dumped(&self) -> String {
        let ids = self
            .device_ids
            .as_ref()
            .map_or_else(|| "<nil>".to_owned(), |ids| map(ids.iter().map(|(node, ids)| (node, list(ids)))));
        let answer = self
            .alloc_resp
            .as_ref()
            .map_or_else(|| "<nil>".to_owned(), |text| list(STANDARD.decode(text).unwrap_or_default()));
        format!(
            "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} DeviceIDs:(checkpoint.DevicesPerNUMA){ids} AllocResp:([]uint8){answer}}}",
            self.pod_uid, self.container_name, self.resource_name
        )
    }
}

impl Data {
    fn dumped(&self) -> String {
        let nothing = || "<nil>".to_owned();
        let entries = self.pod_device_entries.as_ref();
        let entries = entries.map_or_else(nothing, |entries| list(entries.iter().map(Entry::dumped)));
        let one = |ids: &Option<Vec<String>>| ids.as_ref().map_or_else(nothing, list);
        let registered = self.registered_devices.as_ref();
        let registered =
            registered.map_or_else(nothing, |all| map(all.iter().map(|(name, ids)| (name, one(ids)))));
        format!(
            "(checkpoint.checkpointData){{PodDeviceEntries:([]checkpoint.PodDevicesEntry){entries} RegisteredDevices:(map[string][]string){registered}}}"
        )
    }
}

/// What was known when the file was written: resources without devices, until their plugins tell them again. `None`
/// when there is no file.
///
/// # Errors
/// [`CheckpointError`].
pub fn read(path: &Path) -> Result<Option<State>, CheckpointError> {
    let Some(file) = checkpoint::read::<File>(path)? else { return Ok(None) };
    // Upstream sums its entries in whatever order they come; the file's own is taken.
    checkpoint::verify(path, file.checksum, &file.data.dumped())?;
    let mut state = State::default();
    for entry in file.data.pod_device_entries.unwrap_or_default() {
        let answer = STANDARD.decode(entry.alloc_resp.unwrap_or_default()).ok();
        let response = answer.and_then(|bytes| Message::decode(bytes.as_slice()).ok());
        let Some(response) = response else {
            let (pod, container) = (&entry.pod_uid, &entry.container_name);
            tracing::error!(path = %path.display(), pod, container, "what a container needs for its devices cannot be read: it is asked for again");
            continue;
        };
        let given = Given { devices: entry.device_ids.unwrap_or_default(), response };
        state.give(&entry.pod_uid, &entry.container_name, &entry.resource_name, given);
    }
    let registered = file.data.registered_devices.unwrap_or_default();
    state.resources = registered.into_keys().map(|name| (name, Resource::default())).collect();
    Ok(Some(state))
}

/// Writes what is known.
///
/// # Errors
/// [`CheckpointError`].
pub fn write(path: &Path, state: &State) -> Result<(), CheckpointError> {
    let entries: Vec<Entry> = state
        .shares()
        .map(|(uid, container, resource, given)| Entry {
            pod_uid: uid.to_owned(),
            container_name: container.to_owned(),
            resource_name: resource.to_owned(),
            device_ids: Some(given.devices.clone()),
            alloc_resp: Some(STANDARD.encode(given.response.encode_to_vec())),
        })
        .collect();
    let healthy = |resource: &Resource| Some(resource.healthy().into_iter().collect());
    let registered = state.resources.iter().map(|(name, resource)| (name.clone(), healthy(resource)));
    let data = Data {
        pod_device_entries: Some(entries).filter(|entries| !entries.is_empty()),
        registered_devices: Some(registered.collect()),
    };
    let checksum = checkpoint::checksum(&data.dumped());
    checkpoint::write(path, &File { data, checksum })
}

#[cfg(test)]
mod tests {
    use cri::device_plugin as wire;

    use super::*;

    /// Made with upstream's `checkpoint` types and `checksum.New`.
    const UPSTREAM: &str = r#"{"Data":{"PodDeviceEntries":[{"PodUID":"pod1","ContainerName":"con1","ResourceName":"example.com/a","DeviceIDs":{"-1":["dev1","dev2"]},"AllocResp":"CgH/"},{"PodUID":"p2","ContainerName":"","ResourceName":"","DeviceIDs":null,"AllocResp":null}],"RegisteredDevices":{"b":[],"c":null,"example.com/a":["dev1"]}},"Checksum":962383498}"#;

    #[test]
    fn upstreams_sum_is_ours() {
        let file: File = serde_json::from_str(UPSTREAM).unwrap();
        assert_eq!(checkpoint::checksum(&file.data.dumped()), file.checksum);
        let empty = Data { pod_device_entries: None, registered_devices: Some(BTreeMap::new()) };
        assert_eq!(checkpoint::checksum(&empty.dumped()), 3_467_439_661);
    }

    #[test]
    fn what_is_written_is_read_back_and_a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert_eq!(read(&path).unwrap(), None);
        let mut state = State::default();
        let response = wire::ContainerAllocateResponse {
            envs: [("A".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        let given = Given { devices: [(-1, vec!["1".to_owned()])].into(), response };
        state.give("u", "c", "x/a", given);
        state.resources.insert("x/a".to_owned(), Resource::default());
        write(&path, &state).unwrap();
        assert_eq!(read(&path).unwrap(), Some(state));
        let text = std::fs::read_to_string(&path).unwrap().replace("\"u\"", "\"v\"");
        std::fs::write(&path, text).unwrap();
        assert!(matches!(read(&path), Err(CheckpointError::Corrupt { .. })));
    }
}
