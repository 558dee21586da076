//! Kernel parameters of a pod. Each is of a kind of namespace; one that the pod has not to itself would be set for the
//! whole machine, and is refused.

use std::ffi::CString;
use std::io;

use super::namespace::{Kind, Plan};

/// Whose a parameter is.
#[derive(Debug, PartialEq, Eq)]
enum Home {
    Of(Kind),
    Users,
}

/// Where a parameter is below `/proc/sys`.
fn place(name: &str) -> String {
    name.replace('.', "/")
}

fn home(place: &str) -> Option<Home> {
    const IPC: [&str; 8] =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    match place.split_once('/')? {
        ("net", _) => Some(Home::Of(Kind::Net)),
        ("fs", rest) if rest.starts_with("mqueue/") => Some(Home::Of(Kind::Ipc)),
        ("kernel", name) if IPC.contains(&name) => Some(Home::Of(Kind::Ipc)),
        ("kernel", "domainname") => Some(Home::Of(Kind::Uts)),
        ("user", _) => Some(Home::Users),
        _ => None,
    }
}

/// The parameters of a plan as files and their content: those of its user namespace, and all others.
pub struct Settings {
    pub of_users: Vec<(CString, Vec<u8>)>,
    pub others: Vec<(String, String)>,
}

/// Sorts them.
///
/// # Errors
/// When one is not of a namespace that the pod is to have to itself.
pub fn settings(plan: &Plan) -> io::Result<Settings> {
    let mut settings = Settings { of_users: Vec::new(), others: Vec::new() };
    for (name, value) in &plan.sysctls {
        let place = place(name);
        let file = format!("/proc/sys/{place}");
        match home(&place) {
            Some(Home::Of(kind)) if plan.kinds.contains(&kind) => {
                settings.others.push((file, value.clone()));
            }
            Some(Home::Users) if plan.users.is_some() => {
                settings.of_users.push((CString::new(file)?, value.clone().into_bytes()));
            }
            _ => {
                let why = format!("sysctl {name:?} is not in a separate kernel namespace");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::users::Users;

    fn files(names: &[&str], kinds: &[Kind], users: bool) -> Result<(Vec<String>, usize), String> {
        let sysctls = names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
        let users = users.then(Users::default);
        let plan = Plan { kinds: kinds.to_vec(), sysctls, users, ..Plan::default() };
        let settings = settings(&plan).map_err(|error| error.to_string())?;
        Ok((settings.others.into_iter().map(|(file, _)| file).collect(), settings.of_users.len()))
    }

    #[test]
    fn what_a_pod_has_to_itself_is_set() {
        let kinds = [Kind::Net, Kind::Ipc, Kind::Uts];
        let names = ["net.ipv4.ip_forward", "kernel.sem", "fs.mqueue.msg_max", "kernel.domainname", "user.x"];
        let (others, of_users) = files(&names, &kinds, true).unwrap();
        assert_eq!((others[0].as_str(), others.len(), of_users), ("/proc/sys/net/ipv4/ip_forward", 4, 1));
    }

    #[test]
    fn what_it_shares_with_the_machine_is_not() {
        for (name, kinds) in [
            ("net.ipv4.ip_forward", &[Kind::Ipc][..]),
            ("kernel.sem", &[Kind::Net]),
            ("kernel.domainname", &[Kind::Net, Kind::Ipc]),
            ("user.x", &[Kind::Net, Kind::Ipc, Kind::Uts]),
            ("vm.swappiness", &[Kind::Net, Kind::Ipc, Kind::Uts]),
            ("kernel.panic", &[Kind::Net, Kind::Ipc, Kind::Uts]),
            ("fs.file-max", &[Kind::Net, Kind::Ipc, Kind::Uts]),
            ("net", &[Kind::Net]),
        ] {
            let why = format!("sysctl {name:?} is not in a separate kernel namespace");
            assert_eq!(files(&[name], kinds, false), Err(why));
        }
    }
}
