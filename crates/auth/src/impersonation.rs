//! Acting in another's name, by headers (`apiserver/pkg/endpoints/filters/impersonation.go`).

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::user::{AUTHENTICATED, UNAUTHENTICATED, User};

/// Who somebody wants to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Headers that make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("requested [{0}] impersonation without impersonating a user")]
pub struct WithoutUser(&'static str);

/// Reads the headers; `None` when nobody is impersonated.
///
/// # Errors
/// When groups or more are named and no user.
pub fn parse(headers: &HeaderMap) -> Result<Option<Impersonation>, WithoutUser> {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let user = text("impersonate-user");
    let uid = text("impersonate-uid");
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix("impersonate-extra-"), value.to_str()) {
            extra.entry(decode(key)).or_default().push(value.to_owned());
        }
    }
    if !user.is_empty() {
        return Ok(Some(Impersonation { user, uid, groups, extra }));
    }
    match (groups.is_empty(), uid.is_empty(), extra.is_empty()) {
        (false, ..) => Err(WithoutUser("groups")),
        (_, false, _) => Err(WithoutUser("uid")),
        (_, _, false) => Err(WithoutUser("extra")),
        _ => Ok(None),
    }
}

/// Header names cannot hold every character: the rest is percent-encoded.
fn decode(key: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let mut digit = || ahead.next().and_then(|byte| char::from(byte).to_digit(16));
        match (byte, digit(), digit()) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Impersonation {
    /// What whoever asks must be allowed to `impersonate`: group, resource, subresource, namespace and name of each.
    pub fn checks(&self) -> Vec<(&str, &str, &str, &str, &str)> {
        let mut checks = vec![match service_account(&self.user) {
            Some((namespace, name)) => ("", "serviceaccounts", "", namespace, name),
            None => ("", "users", "", "", self.user.as_str()),
        }];
        checks.extend(self.groups.iter().map(|group| ("", "groups", "", "", group.as_str())));
        if !self.uid.is_empty() {
            checks.push(("authentication.k8s.io", "uids", "", "", self.uid.as_str()));
        }
        for (key, values) in &self.extra {
            for value in values {
                checks.push(("authentication.k8s.io", "userextras", key.as_str(), "", value.as_str()));
            }
        }
        checks
    }

    /// The user to go on as.
    pub fn into_user(self) -> User {
        let mut groups = self.groups;
        if let (Some((namespace, _)), true) = (service_account(&self.user), groups.is_empty()) {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        let known = self.user != "system:anonymous";
        let own = if known { AUTHENTICATED } else { UNAUTHENTICATED };
        if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            groups.push(own.to_owned());
        }
        User { name: self.user, uid: self.uid, groups, extra: self.extra }
    }
}

/// Namespace and name of `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_gets_its_groups() {
        let mut headers = HeaderMap::new();
        headers.insert("Impersonate-User", "system:serviceaccount:a:b".parse().unwrap());
        let wanted = parse(&headers).unwrap().unwrap();
        assert_eq!(wanted.checks(), [("", "serviceaccounts", "", "a", "b")]);
        let groups = wanted.into_user().groups;
        assert_eq!(groups, ["system:serviceaccounts", "system:serviceaccounts:a", AUTHENTICATED]);
    }

    #[test]
    fn groups_without_a_user_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert("Impersonate-Group", "g".parse().unwrap());
        assert_eq!(parse(&headers), Err(WithoutUser("groups")));
    }
}
