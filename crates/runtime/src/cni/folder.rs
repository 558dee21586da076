//! The folder of configurations: what the first of its files says, and when that changes.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

use super::list::{NetworkList, Plugin};

/// What a folder says.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// It has no configuration.
    Nothing,
    /// The network of its first file.
    Network(NetworkList),
    /// Its first file cannot be used; why.
    Unusable(String),
}

/// Reads a folder. One that is not there has no configuration.
pub fn read(dir: &Path) -> Found {
    let first = match files(dir, &["conf", "conflist", "json"]) {
        Ok(files) => files.into_iter().next(),
        Err(error) => return Found::Unusable(format!("reading {}: {error}", dir.display())),
    };
    let Some(path) = first else { return Found::Nothing };
    match load(&path) {
        Ok(list) => Found::Network(list),
        Err(why) => Found::Unusable(format!("failed to load CNI config file {}: {why}", path.display())),
    }
}

fn load(path: &Path) -> Result<NetworkList, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    if path.extension().is_none_or(|extension| extension != "conflist") {
        return NetworkList::parse_single(&bytes).map_err(|error| error.to_string());
    }
    let mut list = NetworkList::parse(&bytes).map_err(|error| error.to_string())?;
    if !list.only_inlined {
        // Others may add plugins to a network, each in a file of its own.
        let folder = path.with_file_name(&list.name);
        for path in files(&folder, &["conf"]).map_err(|error| format!("{}: {error}", folder.display()))? {
            let of_file = |why: String| format!("{}: {why}", path.display());
            let bytes = fs::read(&path).map_err(|error| of_file(error.to_string()))?;
            list.plugins.push(Plugin::parse(&bytes).map_err(|error| of_file(error.to_string()))?);
        }
    }
    if list.plugins.is_empty() { Err("no plugin configs found".to_owned()) } else { Ok(list) }
}

/// The files of a folder that end so, by name.
fn files(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let fits = path.extension().and_then(|extension| extension.to_str());
        if fits.is_some_and(|extension| extensions.contains(&extension)) && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Tells when something may have changed in a folder, or on the way to one that is not there yet.
pub struct Watch {
    dir: PathBuf,
    at: PathBuf,
    events: Receiver,
}

impl Watch {
    /// Begins to watch. What happens from now on is told.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let at = nearest(dir);
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(&at, events)?;
        if at == dir {
            // Where networks have further plugins.
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                if path.is_dir() {
                    inotify.add_watch(&path, events)?;
                }
            }
        }
        let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { dir: dir.to_owned(), at, events })
    }

    /// Whether the folder came or went since: then another watch is needed.
    pub fn is_stale(&self) -> bool {
        nearest(&self.dir) != self.at
    }

    /// Until something happens. What it was does not matter: everything is read again.
    pub async fn changed(&self) -> io::Result<()> {
        self.events.readable().await?;
        let mut events = [0; 4096];
        while self.events.try_read(&mut events).is_ok_and(|read| read > 0) {}
        Ok(())
    }
}

/// The folder itself, or what there is of the way to it.
fn nearest(dir: &Path) -> PathBuf {
    dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_by_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(read(&dir.path().join("absent")), Found::Nothing);
        write("00-notes.txt", "");
        assert_eq!(read(dir.path()), Found::Nothing);
        write("20-b.conf", r#"{"cniVersion":"0.4.0","name":"b","type":"x"}"#);
        assert!(matches!(read(dir.path()), Found::Network(list) if list.name == "b"));
        write("10-a.conflist", r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"x"}]}"#);
        assert!(matches!(read(dir.path()), Found::Network(list) if list.name == "a"));
        // One that is broken is told of, and not passed over for the next.
        write("05.json", "{");
        let Found::Unusable(why) = read(dir.path()) else { panic!("it is broken") };
        assert!(why.starts_with("failed to load CNI config file /") && why.contains("05.json"), "{why}");
    }

    #[test]
    fn plugins_may_be_in_a_folder_beside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1.conflist"), r#"{"cniVersion":"1.1.0","name":"n"}"#).unwrap();
        assert!(matches!(read(dir.path()), Found::Unusable(why) if why.ends_with("no plugin configs found")));
        fs::create_dir(dir.path().join("n")).unwrap();
        fs::write(dir.path().join("n/1.conf"), r#"{"type":"x"}"#).unwrap();
        assert!(matches!(read(dir.path()), Found::Network(list) if list.plugins.len() == 1));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_yet_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cni/net.d");
        let watch = Watch::start(&folder).unwrap();
        fs::create_dir_all(&folder).unwrap();
        watch.changed().await.unwrap();
        assert!(watch.is_stale());
        let watch = Watch::start(&folder).unwrap();
        fs::write(folder.join("x.conf"), "").unwrap();
        watch.changed().await.unwrap();
        assert!(!watch.is_stale());
        fs::remove_dir_all(&folder).unwrap();
        watch.changed().await.unwrap();
        assert!(watch.is_stale());
    }
}
