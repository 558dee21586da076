//! Applying one layer's tar entries to a folder, which may be an overlay of the layers below.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use tar::EntryType;

/// What failed, and at which entry.
pub type EntryResult<T> = Result<T, (String, io::Error)>;

/// The most bytes that the headers before an entry may have, with its long names, its attributes and the map of its
/// holes: they are kept in memory. Go's `archive/tar` refuses any one of them above 1 MiB.
const LARGEST_HEADERS: u64 = 4 << 20;

/// A stream of which so much may be read.
struct Bounded<'a> {
    inner: &'a mut dyn Read,
    left: &'a Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buf.is_empty() {
            let text = format!("the headers of an entry have more than {} MiB", LARGEST_HEADERS >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(buf.get_mut(..most).unwrap_or_default())?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

/// Applies a tar stream to a folder. Gives bytes and inodes.
pub fn apply(reader: &mut dyn Read, target: &Path) -> EntryResult<(u64, u64)> {
    let top = |e: io::Error| (String::new(), e);
    let mut applier = Applier::new(target).map_err(top)?;
    let left = Cell::new(LARGEST_HEADERS);
    let mut archive = tar::Archive::new(Bounded { inner: reader, left: &left });
    for entry in archive.entries().map_err(top)? {
        let mut entry = entry.map_err(top)?;
        left.set(u64::MAX);
        let path = entry.path().map_err(top)?.into_owned();
        let applied = applier.entry(&mut entry, &path);
        // What nobody wanted of it does not count for the next one's headers.
        let applied = applied.and_then(|()| io::copy(&mut entry, &mut io::sink()));
        applied.map_err(|e| (path.display().to_string(), e))?;
        left.set(LARGEST_HEADERS);
    }
    applier.finish().map_err(top)?;
    Ok((applier.bytes, applier.inodes))
}

struct Applier {
    root: OwnedFd,
    /// The folder of the last entry: most entries are beside the one before.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Folders' times are set last, since what is put into them changes them.
    times: Vec<(PathBuf, TimeSpec)>,
    /// What this layer brought itself, which an opaque marker spares.
    seen: HashSet<PathBuf>,
    bytes: u64,
    inodes: u64,
    /// What lies between reading and writing.
    buffer: Vec<u8>,
}

/// Bytes that are written at once.
const BUFFER: usize = 128 << 10;

impl Applier {
    fn new(target: &Path) -> io::Result<Self> {
        let root = File::open(target)?.into();
        Ok(Self {
            root,
            parent: None,
            times: Vec::new(),
            seen: HashSet::new(),
            bytes: 0,
            inodes: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Opens below the root; links cannot lead out of it.
    fn open(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        Ok(openat2(&self.root, path, how)?)
    }

    /// The folder of an entry, made where it is missing.
    fn parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if let Some((have, fd)) = &self.parent
            && have == folder
        {
            return fd.try_clone();
        }
        let fd = self.folder(folder)?;
        self.parent = Some((folder.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        // As many links as the kernel would follow.
        self.folder_at_depth(path, 40)
    }

    fn folder_at_depth(&self, path: &Path, depth: u32) -> io::Result<OwnedFd> {
        const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);
        match self.open(path, FOLDER) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.as_os_str().is_empty() => {
                let above = path.parent().unwrap_or(Path::new(""));
                let parent = self.folder(above)?;
                match mkdirat(&parent, name(path)?, Mode::from_bits_truncate(0o755)) {
                    // A link to a folder that no layer has brought yet.
                    Err(nix::Error::EEXIST) if depth > 0 => {
                        let target = PathBuf::from(readlinkat(&parent, name(path)?)?);
                        let target =
                            target.strip_prefix("/").map_or_else(|_| above.join(&target), Path::to_owned);
                        self.folder_at_depth(&target, depth - 1)
                    }
                    made => {
                        made?;
                        self.open(path, FOLDER)
                    }
                }
            }
            other => other,
        }
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        // `./a//b` and `/a/b` are both `a/b`.
        let path: PathBuf = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
            .collect();
        if path.as_os_str().is_empty() {
            return self.attributes(entry, &self.root.try_clone()?, OsStr::new("."), kind);
        }
        let parent = self.parent(&path)?;
        let name = name(&path)?;
        if name == ".wh..wh..opq" {
            return self.make_opaque(path.parent().unwrap_or(Path::new("")));
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            self.parent = None;
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout of no name"));
            }
            return remove(parent.as_fd(), OsStr::from_bytes(hidden));
        }
        self.create(entry, &parent, name, kind)?;
        if kind != EntryType::Link {
            self.attributes(entry, &parent, name, kind)?;
            self.inodes += 1;
        }
        if kind.is_dir() {
            let mtime = entry.header().mtime()?;
            self.times.push((path.clone(), TimeSpec::new(mtime as i64, 0)));
        }
        self.seen.insert(path);
        Ok(())
    }

    fn create(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        parent: &OwnedFd,
        name: &OsStr,
        kind: EntryType,
    ) -> io::Result<()> {
        if kind.is_dir() {
            match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
                Err(nix::Error::EEXIST) if is_folder(parent.as_fd(), name) => {}
                Err(nix::Error::EEXIST) => {
                    remove(parent.as_fd(), name)?;
                    mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
                }
                other => other?,
            }
            return Ok(());
        }
        if is_folder(parent.as_fd(), name) {
            self.parent = None;
        }
        remove(parent.as_fd(), name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let fd = nix::fcntl::openat(parent, name, flags, Mode::from_bits_truncate(0o600))?;
                self.fill(entry, File::from(fd))?;
            }
            EntryType::Symlink => symlinkat(link_target(entry)?.as_path(), parent, name)?,
            EntryType::Link => {
                let target: PathBuf = link_target(entry)?
                    .components()
                    .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
                    .collect();
                let from = self.folder(target.parent().unwrap_or(Path::new("")))?;
                linkat(&from, self::name(&target)?, parent, name, LinkatFlags::empty())?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (sort, device) = match kind {
                    EntryType::Char => (SFlag::S_IFCHR, device(entry)?),
                    EntryType::Block => (SFlag::S_IFBLK, device(entry)?),
                    _ => (SFlag::S_IFIFO, 0),
                };
                mknodat(parent, name, sort, Mode::from_bits_truncate(0o600), device)?;
            }
            other => return Err(io::Error::other(format!("a tar entry of type {other:?}"))),
        }
        Ok(())
    }

    fn fill(&mut self, content: &mut impl Read, mut file: File) -> io::Result<()> {
        loop {
            let read = content.read(&mut self.buffer)?;
            let Some(piece) = self.buffer.get(..read).filter(|piece| !piece.is_empty()) else {
                return Ok(());
            };
            file.write_all(piece)?;
            self.bytes += piece.len() as u64;
        }
    }

    fn attributes(
        &self,
        entry: &mut tar::Entry<'_, impl Read>,
        parent: &OwnedFd,
        name: &OsStr,
        kind: EntryType,
    ) -> io::Result<()> {
        let header = entry.header();
        let (uid, gid) = (Uid::from_raw(header.uid()? as u32), Gid::from_raw(header.gid()? as u32));
        let (mode, mtime) = (header.mode()?, header.mtime()?);
        // The owner first: changing it takes set-user-id bits and capabilities away.
        fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let link = kind == EntryType::Symlink;
        if !link {
            fchmodat(parent, name, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?;
        }
        let place = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                let key = extension.key_bytes().strip_prefix(b"SCHILY.xattr.");
                // By these an overlay knows what of the layers below is hidden, or where it is: no image has a say there.
                if let Some(key) = key.filter(|key| !key.starts_with(b"trusted.overlay.")) {
                    set_xattr(&place, key, extension.value_bytes())?;
                }
            }
        }
        let time = TimeSpec::new(mtime as i64, 0);
        Ok(utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Hides what the layers below have in a folder, but not what this one brought already.
    fn make_opaque(&mut self, folder: &Path) -> io::Result<()> {
        self.parent = None;
        let fd = self.folder(folder)?;
        for entry in fs::read_dir(Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()))? {
            let name: OsString = entry?.file_name();
            let path = folder.join(&name);
            if !self.seen.iter().any(|seen| seen.starts_with(&path)) {
                remove(fd.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        for (path, time) in &self.times {
            let Ok(fd) = self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY) else {
                // A later entry replaced the folder.
                continue;
            };
            utimensat(&fd, ".", time, time, UtimensatFlags::NoFollowSymlink)?;
        }
        Ok(())
    }
}

fn name(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the path ends with .."))
}

fn link_target(entry: &tar::Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let target = entry
        .link_name()?
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a link without a target"))?;
    Ok(target.into_owned())
}

fn device(entry: &tar::Entry<'_, impl Read>) -> io::Result<libc::dev_t> {
    let header = entry.header();
    Ok(libc::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
}

fn is_folder(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    nix::sys::stat::fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Removes whatever has that name; nothing is fine.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(nix::Error::EISDIR | nix::Error::EPERM) => {
            fs::remove_dir_all(Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name))
        }
        Err(error) => Err(error.into()),
    }
}

#[expect(unsafe_code, reason = "nix has no extended attributes")]
fn set_xattr(path: &Path, key: &[u8], value: &[u8]) -> io::Result<()> {
    let (path, key) = (CString::new(path.as_os_str().as_bytes())?, CString::new(key)?);
    // SAFETY: both strings end with a NUL, and the value is as long as is said.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A file system without them, or a label that only another machine's policy knows.
    if matches!(error.raw_os_error(), Some(libc::ENOTSUP)) || key.as_bytes().starts_with(b"security.selinux")
    {
        return Ok(());
    }
    Err(error)
}
