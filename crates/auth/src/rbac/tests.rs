use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};

use super::*;

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_yaml_ng::from_str(text).unwrap()
}

/// The default policy, its aggregated roles filled in.
fn defaults() -> RbacAuthorizer {
    let policy = bootstrap_policy().unwrap();
    let mut roles = policy.cluster_roles.clone();
    // Twice, since `admin` takes in `edit`, which takes in `view`.
    for _ in 0..3 {
        let known = roles.clone();
        for role in &mut roles {
            if let Some(rules) = aggregate(role, &known) {
                role.rules = Some(rules);
            }
        }
    }
    let authorizer = RbacAuthorizer::default();
    authorizer.update(|snapshot| {
        roles.iter().for_each(|role| snapshot.upsert_cluster_role(role));
        policy.cluster_role_bindings.iter().for_each(|binding| snapshot.upsert_cluster_role_binding(binding));
        policy.roles.iter().for_each(|role| snapshot.upsert_role(role));
        policy.role_bindings.iter().for_each(|binding| snapshot.upsert_role_binding(binding));
    });
    authorizer
}

fn resource<'a>(
    user: &'a User,
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    namespace: &'a str,
) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        user,
        verb,
        api_group: group,
        api_version: "v1",
        resource,
        subresource,
        name: "",
        namespace,
        path: "",
        is_resource: true,
    }
}

fn path<'a>(user: &'a User, path: &'a str) -> Attributes<'a> {
    Attributes { path, is_resource: false, ..resource(user, "get", "", "", "") }
}

fn is_allowed(authorizer: &RbacAuthorizer, asked: &Attributes<'_>) -> bool {
    matches!(authorizer.authorize(asked), Decision::Allow(_))
}

#[test]
fn the_defaults_give_each_component_what_it_needs_and_no_more() {
    let authorizer = defaults();
    let scheduler = User::known("system:kube-scheduler", &[]);
    let anonymous = User::anonymous();
    let controller = User::known(
        "system:serviceaccount:kube-system:deployment-controller",
        &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
    );
    let admin = User::known("root", &["system:masters"]);
    let somebody = User::known("somebody", &[]);
    let cases = [
        (resource(&scheduler, "create", "", "pods/binding", "a"), true),
        (resource(&scheduler, "update", "coordination.k8s.io", "leases", "kube-system"), true),
        (resource(&scheduler, "get", "", "secrets", "a"), false),
        (resource(&controller, "create", "apps", "replicasets", "a"), true),
        (resource(&controller, "create", "", "pods", "a"), false),
        (resource(&admin, "escalate", "anything.io", "whatever/else", ""), true),
        (resource(&somebody, "create", "authorization.k8s.io", "selfsubjectaccessreviews", ""), true),
        (resource(&somebody, "list", "", "pods", "a"), false),
        (path(&anonymous, "/healthz"), true),
        (path(&anonymous, "/version"), true),
        (path(&anonymous, "/metrics"), false),
        (path(&anonymous, "/api"), false),
        (path(&somebody, "/apis/apps/v1"), true),
    ];
    for (asked, expected) in cases {
        assert_eq!(is_allowed(&authorizer, &asked), expected, "{asked:?}");
    }
}

#[test]
fn aggregated_roles_hold_what_their_parts_hold() {
    let authorizer = defaults();
    let user = User::known("dev", &[]);
    let bind = |role: &str| -> RoleBinding {
        yaml(&format!(
            "{{metadata: {{name: b, namespace: a}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, \
             name: {role}}}, subjects: [{{kind: User, name: dev, apiGroup: rbac.authorization.k8s.io}}]}}"
        ))
    };
    let get_pods = resource(&user, "get", "", "pods", "a");
    let delete_pods = resource(&user, "delete", "", "pods", "a");
    let make_roles = resource(&user, "create", "rbac.authorization.k8s.io", "roles", "a");
    for (role, expected) in
        [("view", [true, false, false]), ("edit", [true, true, false]), ("admin", [true; 3])]
    {
        authorizer.update(|snapshot| snapshot.upsert_role_binding(&bind(role)));
        let allowed = [&get_pods, &delete_pods, &make_roles].map(|asked| is_allowed(&authorizer, asked));
        assert_eq!(allowed, expected, "{role}");
        assert!(
            !is_allowed(&authorizer, &Attributes { namespace: "b", ..get_pods }),
            "only in its namespace"
        );
    }
    authorizer.update(|snapshot| snapshot.remove_role_binding("a", "b"));
    assert!(!is_allowed(&authorizer, &get_pods));
}

#[test]
fn reasons_read_as_upstream_writes_them() {
    let authorizer = defaults();
    let admin = User::known("root", &["system:masters"]);
    assert_eq!(
        authorizer.authorize(&resource(&admin, "get", "", "pods", "")),
        Decision::Allow(
            "RBAC: allowed by ClusterRoleBinding \"cluster-admin\" of ClusterRole \"cluster-admin\" to Group \
             \"system:masters\""
                .into()
        )
    );
    let account = User::known("system:serviceaccount:kube-system:token-cleaner", &[]);
    assert_eq!(
        authorizer.authorize(&resource(&account, "delete", "", "secrets", "kube-system")),
        Decision::Allow(
            "RBAC: allowed by RoleBinding \"system:controller:token-cleaner/kube-system\" of Role \
             \"system:controller:token-cleaner\" to ServiceAccount \"token-cleaner/kube-system\""
                .into()
        )
    );
    authorizer.update(|snapshot| snapshot.remove_role("kube-system", "system:controller:token-cleaner"));
    assert_eq!(
        authorizer.authorize(&resource(&account, "delete", "", "secrets", "kube-system")),
        Decision::NoOpinion(
            "RBAC: role.rbac.authorization.k8s.io \"system:controller:token-cleaner\" not found".into()
        )
    );
}

#[test]
fn a_service_account_without_namespace_is_one_of_the_bindings_own() {
    let authorizer = defaults();
    let binding: RoleBinding = yaml(
        "{metadata: {name: b, namespace: a}, roleRef: {apiGroup: '', kind: ClusterRole, name: view}, \
         subjects: [{kind: ServiceAccount, name: robot}]}",
    );
    authorizer.update(|snapshot| snapshot.upsert_role_binding(&binding));
    let (own, other) = (
        User::known("system:serviceaccount:a:robot", &[]),
        User::known("system:serviceaccount:b:robot", &[]),
    );
    assert!(is_allowed(&authorizer, &resource(&own, "list", "", "pods", "a")));
    assert!(!is_allowed(&authorizer, &resource(&other, "list", "", "pods", "a")));
    assert!(!authorizer.rules_for(&own, "a").is_empty());
}

#[test]
fn defaults_are_mended_and_additions_kept() {
    let policy = bootstrap_policy().unwrap();
    let expected = policy
        .cluster_roles
        .iter()
        .find(|role| role.metadata.name.as_deref() == Some("system:kube-scheduler"));
    let expected = expected.unwrap();
    assert_eq!(cluster_role(None, expected), Reconcile::Create(expected.clone()));
    assert_eq!(cluster_role(Some(expected), expected), Reconcile::Nothing);

    let mut existing: ClusterRole = expected.clone();
    let extra = yaml("{verbs: [get], apiGroups: [example.com], resources: [things]}");
    existing.rules = Some(vec![extra]);
    let Reconcile::Update(mended) = cluster_role(Some(&existing), expected) else { panic!("not mended") };
    let rules = mended.rules.as_ref().unwrap();
    assert_eq!(rules[0], existing.rules.as_ref().unwrap()[0]);
    assert_eq!(cluster_role(Some(&mended), expected), Reconcile::Nothing);

    existing.metadata.annotations.as_mut().unwrap().insert(policy::AUTOUPDATE.into(), "false".into());
    assert_eq!(cluster_role(Some(&existing), expected), Reconcile::Nothing, "it wants to be left alone");

    let binding = &policy.cluster_role_bindings[0];
    let mut other = binding.clone();
    other.role_ref.name = "other".into();
    assert_eq!(cluster_role_binding(Some(&other), binding), Reconcile::Recreate(binding.clone()));
    let mut fewer = binding.clone();
    fewer.subjects = None;
    assert_eq!(cluster_role_binding(Some(&fewer), binding), Reconcile::Update(binding.clone()));
}
