use std::fmt;

use cri::Reference;

use super::ImageError;

/// An image's full name: registry, repository, and tag or digest, as Docker completes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Reference);

/// What somebody means by an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The image with this id, or the only one whose id begins so.
    Id(String),
    /// The image of this name.
    Name(Name),
}

impl Name {
    /// `nginx` is `docker.io/library/nginx:latest`.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let reference = text.parse().map_err(|error: cri::ReferenceError| {
            ImageError::Reference(text.to_owned(), error.to_string())
        })?;
        Ok(Self(reference))
    }

    /// Without the tag where there is a digest: what a digest names needs no tag.
    pub fn reference(&self) -> &Reference {
        &self.0
    }

    /// `docker.io/library/nginx`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.0.registry(), self.0.repository())
    }

    /// The name by a digest, as `repo@sha256:…`.
    pub fn by_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.repository())
    }

    /// The name by its tag; `None` when it has a digest.
    pub fn by_tag(&self) -> Option<String> {
        match (self.0.digest(), self.0.tag()) {
            (None, Some(tag)) => Some(format!("{}:{tag}", self.repository())),
            (None, None) => Some(format!("{}:latest", self.repository())),
            (Some(_), _) => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.by_tag(), self.0.digest()) {
            (Some(name), _) => f.write_str(&name),
            (None, digest) => f.write_str(&self.by_digest(digest.unwrap_or_default())),
        }
    }
}

impl Wanted {
    /// An id with or without its algorithm, or a name.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_id =
            hex.bytes().all(|b| b.is_ascii_hexdigit()) && (text.starts_with("sha256:") || hex.len() == 64);
        if is_id && !hex.is_empty() {
            return Ok(Self::Id(hex.to_owned()));
        }
        Name::parse(text).map(Self::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("a/b:1", "docker.io/a/b:1"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ] {
            assert_eq!(Name::parse(short).unwrap().to_string(), full);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let named = Name::parse(&format!("nginx:1@{digest}")).unwrap();
        assert_eq!(named.to_string(), format!("docker.io/library/nginx@{digest}"));
        assert!(Name::parse("UPPER CASE").is_err());
    }

    #[test]
    fn ids_are_told_from_names() {
        assert_eq!(Wanted::parse("sha256:abc").unwrap(), Wanted::Id("abc".into()));
        assert_eq!(Wanted::parse(&"a".repeat(64)).unwrap(), Wanted::Id("a".repeat(64)));
        assert!(matches!(Wanted::parse("cafe").unwrap(), Wanted::Name(_)));
    }
}
