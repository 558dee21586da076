use cri::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use super::PlanError;

/// Who a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups, in rising order.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid, _, home) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Entry { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// Name, number and members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid, members) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next().unwrap_or(""));
        Some((name, gid.parse().ok()?, members))
    })
}

fn number(value: i64, what: &str) -> Result<u32, PlanError> {
    u32::try_from(value).map_err(|_| PlanError::User(format!("{what} {value} is out of range")))
}

/// The container's wish goes before the image's; names are looked up in the image.
pub fn resolve(
    context: &LinuxContainerSecurityContext,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<User, PlanError> {
    if context.run_as_group.is_some() && context.run_as_user.is_none() && context.run_as_username.is_empty() {
        return Err(PlanError::User("run_as_group needs run_as_user or run_as_username".into()));
    }
    let asked = match (&context.run_as_user, context.run_as_username.as_str()) {
        (Some(uid), _) => uid.value.to_string(),
        (None, "") => image_user.to_owned(),
        (None, name) => name.to_owned(),
    };
    let (asked, asked_group) = asked.split_once(':').unwrap_or((asked.as_str(), ""));
    let asked = if asked.is_empty() { "0" } else { asked };
    let known = match asked.parse::<i64>() {
        Ok(uid) => {
            let uid = number(uid, "user")?;
            let entry = entries(passwd).find(|entry| entry.uid == uid);
            entry.unwrap_or(Entry { name: "", uid, gid: 0, home: if uid == 0 { "/root" } else { "/" } })
        }
        Err(_) => entries(passwd)
            .find(|entry| entry.name == asked)
            .ok_or_else(|| PlanError::User(format!("no user {asked:?} in the image's /etc/passwd")))?,
    };
    let gid = match (&context.run_as_group, asked_group) {
        (Some(gid), _) => number(gid.value, "group")?,
        (None, "") => known.gid,
        (None, name) => match name.parse::<i64>() {
            Ok(gid) => number(gid, "group")?,
            Err(_) => groups(group)
                .find(|(have, ..)| *have == name)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| PlanError::User(format!("no group {name:?} in the image's /etc/group")))?,
        },
    };
    // The primary group is among the others, as login would have it.
    let mut all = vec![gid];
    for extra in &context.supplemental_groups {
        all.push(number(*extra, "supplemental group")?);
    }
    if context.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge && !known.name.is_empty() {
        let member = |members: &str| members.split(',').any(|member| member == known.name);
        all.extend(groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    all.sort_unstable();
    all.dedup();
    Ok(User { uid: known.uid, gid, groups: all, home: known.home.to_owned() })
}

#[cfg(test)]
mod tests {
    use cri::v1::Int64Value;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100::/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,app\n";

    fn with(context: LinuxContainerSecurityContext, image: &str) -> Result<(u32, u32, Vec<u32>), PlanError> {
        resolve(&context, image, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups))
    }

    #[test]
    fn names_and_numbers_and_memberships() {
        let none = LinuxContainerSecurityContext::default;
        assert_eq!(with(none(), "app"), Ok((1000, 100, vec![10, 100])));
        assert_eq!(with(none(), "app:wheel"), Ok((1000, 10, vec![10])));
        assert_eq!(with(none(), "7:8"), Ok((7, 8, vec![8])));
        assert_eq!(with(none(), ""), Ok((0, 0, vec![0, 10])));
        let by_number =
            LinuxContainerSecurityContext { run_as_user: Some(Int64Value { value: 1000 }), ..none() };
        assert_eq!(with(by_number, "nobody"), Ok((1000, 100, vec![10, 100])));
        let strict = LinuxContainerSecurityContext {
            supplemental_groups: vec![5],
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict as i32,
            ..none()
        };
        assert_eq!(with(strict, "app"), Ok((1000, 100, vec![5, 100])));
        let group_alone =
            LinuxContainerSecurityContext { run_as_group: Some(Int64Value { value: 1 }), ..none() };
        assert!(with(group_alone, "app").unwrap_err().to_string().contains("run_as_user"));
        assert!(with(none(), "ghost").unwrap_err().to_string().contains("ghost"));
    }
}
