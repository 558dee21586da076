//! Which objects there are to follow, and how they are asked for.

use std::borrow::Cow;

/// Which objects an informer follows.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The version.
    pub version: Cow<'static, str>,
    /// The kind.
    pub kind: Cow<'static, str>,
    /// The name in paths.
    pub plural: Cow<'static, str>,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Such as `spec.nodeName=a`; empty for all.
    pub field_selector: String,
    /// Such as `app=web`; empty for all.
    pub label_selector: String,
    /// Ask for the metadata alone, which works for custom resources, too.
    pub metadata_only: bool,
}

impl Resource {
    /// All objects of a kind.
    pub fn all(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            namespace: None,
            field_selector: String::new(),
            label_selector: String::new(),
            metadata_only: false,
        }
    }

    /// The metadata of all objects of a kind that is only known at run time.
    pub fn metadata(group: &str, version: &str, plural: &str) -> Self {
        Self {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: "PartialObjectMetadata".into(),
            plural: plural.to_owned().into(),
            metadata_only: true,
            ..Self::all("", "", "", "")
        }
    }

    /// Only those that a field selector selects.
    #[must_use]
    pub fn with_fields(mut self, selector: impl Into<String>) -> Self {
        self.field_selector = selector.into();
        self
    }

    /// Only those that a label selector selects.
    #[must_use]
    pub fn with_labels(mut self, selector: impl Into<String>) -> Self {
        self.label_selector = selector.into();
        self
    }

    /// Only those of a namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    pub(super) fn path(&self) -> String {
        let root = match &*self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        for (name, selector) in
            [("fieldSelector", &self.field_selector), ("labelSelector", &self.label_selector)]
        {
            if !selector.is_empty() {
                query.push_str(&format!("&{name}={}", encode(selector)));
            }
        }
        query
    }
}

/// Percent-encodes a query value.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
