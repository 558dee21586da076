//! The folder that a build copies from. Nothing outside of it is ever read.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::ignore::{self, Ignore};

/// The folder and what of it is left out.
#[derive(Debug)]
pub struct Context {
    root: PathBuf,
    ignore: Ignore,
}

/// Something that is copied.
#[derive(Debug)]
pub struct Found {
    /// Below its source; empty for the source itself.
    pub below: PathBuf,
    /// Where it is.
    pub from: PathBuf,
    /// Of itself: links are not followed.
    pub metadata: Metadata,
}

/// What one word of a `COPY` means.
#[derive(Debug)]
pub struct Source {
    /// Its last name.
    pub name: String,
    /// Of a folder, what is in it is copied, not the folder.
    pub folder: bool,
    /// The source itself first, folders before what is in them, sorted.
    pub found: Vec<Found>,
}

impl Context {
    /// Opens the folder, whose ignore file has been read.
    pub fn open(root: &Path, ignore: Ignore) -> io::Result<Self> {
        Ok(Self { root: root.canonicalize()?, ignore })
    }

    /// What a word means: one path, or several if it is a pattern.
    pub fn sources(&self, word: &str) -> Result<Vec<Source>, Fault> {
        let refused = |reason| Fault::Source { path: word.to_owned(), reason };
        let mut parts = Vec::new();
        for part in word.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop().ok_or_else(|| refused("it leads out of the context"))?;
                }
                part => parts.push(part),
            }
        }
        let mut places = vec![Vec::new()];
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let mut next = Vec::new();
            for place in places {
                next.extend(self.step(&place, part, last)?);
            }
            places = next;
        }
        places.retain(|place| !self.excludes(place) || self.ignore.has_exceptions());
        let mut sources = Vec::new();
        for place in places {
            let source = self.source(&place)?;
            if !source.found.is_empty() {
                sources.push(source);
            }
        }
        if sources.is_empty() {
            return Err(refused("it is not in the context, or the ignore file leaves it out"));
        }
        Ok(sources)
    }

    fn excludes(&self, place: &[String]) -> bool {
        self.ignore.excludes(&place.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn path(&self, place: &[String]) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(place);
        path
    }

    /// From a folder to what one part of a word means in it.
    fn step(&self, place: &[String], part: &str, last: bool) -> Result<Vec<Vec<String>>, Fault> {
        let names = if ignore::is_pattern(part) {
            let mut names = self.names(&self.path(place))?;
            names.retain(|name| ignore::matches(part, name));
            names
        } else {
            vec![part.to_owned()]
        };
        let mut found = Vec::new();
        for name in names {
            let mut place = place.to_vec();
            place.push(name);
            let path = self.path(&place);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if last || metadata.is_dir() => found.push(place),
                // A link on the way could lead anywhere.
                Ok(metadata) if metadata.is_symlink() && !ignore::is_pattern(part) => {
                    let reason = "it goes through a link; name the folder that it leads to";
                    return Err(Fault::Source { path: place.join("/"), reason });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Fault::read(&path)(error)),
            }
        }
        Ok(found)
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(Fault::read(folder))? {
            let name = entry.map_err(Fault::read(folder))?.file_name().into_string().map_err(|name| {
                Fault::Source {
                    path: folder.join(name).display().to_string(),
                    reason: "its name is not UTF-8",
                }
            })?;
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn source(&self, place: &[String]) -> Result<Source, Fault> {
        let mut place = place.to_vec();
        let name = place.last().cloned().unwrap_or_default();
        let path = self.path(&place);
        let metadata = fs::symlink_metadata(&path).map_err(Fault::read(&path))?;
        // A link that was named itself means what it leads to, as long as that is inside.
        if metadata.is_symlink()
            && let Ok(target) = path.canonicalize()
            && let Ok(inside) = target.strip_prefix(&self.root)
            && let Some(inside) =
                inside.iter().map(|part| part.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            && !self.excludes(&inside)
        {
            place = inside;
        }
        let mut found = Vec::new();
        self.walk(&mut place, PathBuf::new(), &mut found)?;
        let folder = found.first().is_some_and(|first| first.metadata.is_dir());
        Ok(Source { name, folder, found })
    }

    fn walk(&self, place: &mut Vec<String>, below: PathBuf, found: &mut Vec<Found>) -> Result<(), Fault> {
        let excluded = !place.is_empty() && self.excludes(place);
        let from = self.path(place);
        let metadata = fs::symlink_metadata(&from).map_err(Fault::read(&from))?;
        let kind = metadata.file_type();
        if excluded && !(kind.is_dir() && self.ignore.has_exceptions()) || kind.is_socket() {
            return Ok(());
        }
        if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
            return Err(Fault::Source {
                path: place.join("/"),
                reason: "it is neither a file, a folder nor a link",
            });
        }
        let folder = kind.is_dir().then(|| from.clone());
        let at = found.len();
        found.push(Found { below: below.clone(), from, metadata });
        let Some(folder) = folder else { return Ok(()) };
        for name in self.names(&folder)? {
            let below = below.join(&name);
            place.push(name);
            self.walk(place, below, found)?;
            place.pop();
        }
        // Excluded, and nothing in it was wanted after all.
        if excluded && found.len() == at + 1 {
            found.truncate(at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn context(ignore: &str) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("context");
        fs::create_dir_all(root.join("src/deep")).unwrap();
        for file in ["a.txt", "b.txt", "src/x", "src/deep/y", "src/deep/z"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("../../secret", root.join("src/out")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("a.txt", root.join("in")).unwrap();
        symlink("..", root.join("up")).unwrap();
        let context = Context::open(&root, Ignore::parse(ignore)).unwrap();
        (dir, context)
    }

    fn names(context: &Context, word: &str) -> Vec<String> {
        let sources = context.sources(word).unwrap();
        let all =
            sources.iter().flat_map(|s| s.found.iter().map(|f| format!("{}:{}", s.name, f.below.display())));
        all.collect()
    }

    #[test]
    fn words_mean_files_folders_and_patterns() {
        let (_dir, context) = context("");
        assert_eq!(names(&context, "*.txt"), ["a.txt:", "b.txt:"]);
        assert_eq!(
            names(&context, "./src/"),
            ["src:", "src:deep", "src:deep/y", "src:deep/z", "src:out", "src:x"]
        );
        assert_eq!(names(&context, "s*/deep/[y-z]"), ["y:", "z:"]);
        assert_eq!(names(&context, "src/../a.txt"), ["a.txt:"]);
    }

    #[test]
    fn nothing_leads_out() {
        let (_dir, context) = context("");
        for (word, says) in [
            ("../secret", "leads out of the context"),
            ("/../secret", "leads out of the context"),
            ("up/secret", "goes through a link"),
            ("none", "it is not in the context"),
        ] {
            let fault = context.sources(word).unwrap_err().to_string();
            assert!(fault.contains(says), "{word}: {fault}");
        }
        let out = context.sources("out").unwrap();
        assert!(out[0].found[0].metadata.is_symlink());
        let within = context.sources("in").unwrap();
        assert!(within[0].found[0].metadata.is_file() && within[0].name == "in");
    }

    #[test]
    fn what_is_ignored_is_not_there() {
        let (_dir, context) = context("*.txt\nsrc\n!src/deep/z\n");
        assert!(context.sources("a.txt").is_err());
        // The link's target is left out: it stays a link.
        assert!(context.sources("in").unwrap()[0].found[0].metadata.is_symlink());
        assert_eq!(names(&context, "src"), ["src:", "src:deep", "src:deep/z"]);
    }
}
