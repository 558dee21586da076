//! The labels by which dashboards choose: every sample has all of them, empty where they say nothing.

/// `container`, `id`, `image`, `name`, `namespace` and `pod`, with what they say.
pub type Labels = [(&'static str, String); 6];

/// Of a group that is no container's, and of whose pod (its namespace and name), if it is one's.
pub fn of_group(id: &str, pod: Option<(&str, &str)>) -> Labels {
    of_container(["", id, "", ""], pod.unwrap_or_default())
}

/// Of a container: its name, its group, its image and its id; its pod's namespace and name.
pub fn of_container([name, group, image, id]: [&str; 4], (namespace, pod): (&str, &str)) -> Labels {
    [
        ("container", name.to_owned()),
        ("id", group.to_owned()),
        ("image", image.to_owned()),
        ("name", id.to_owned()),
        ("namespace", namespace.to_owned()),
        ("pod", pod.to_owned()),
    ]
}

/// The same with more of them.
pub fn with<'a>(labels: &'a Labels, more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    labels.iter().map(|(name, text)| (*name, text.as_str())).chain(more.iter().copied()).collect()
}
