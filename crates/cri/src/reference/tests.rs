use super::*;

fn parse(text: &str) -> Result<String, String> {
    text.parse::<Reference>().map(|reference| reference.to_string()).map_err(|error| error.to_string())
}

#[test]
fn names_are_completed_as_docker_does() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (short, full) in [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("test.com:5000", "docker.io/library/test.com:5000"),
        ("a/b:Tag_1.2-x", "docker.io/a/b:Tag_1.2-x"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/nginx", "docker.io/library/nginx"),
        ("localhost/x", "localhost/x"),
        ("localhost:5000/x", "localhost:5000/x"),
        ("[::1]:5000/x:1", "[::1]:5000/x:1"),
        ("[fe80::1]/x", "[fe80::1]/x"),
        ("Registry/x", "Registry/x"),
        ("registry.k8s.io/a/b__c/d---e.f:v1", "registry.k8s.io/a/b__c/d---e.f:v1"),
        ("foo_bar.com/x", "foo_bar.com/x"),
    ] {
        assert_eq!(parse(short).as_deref(), Ok(full));
        assert_eq!(parse(&format!("{short}@{digest}")), Ok(format!("{full}@{digest}")));
    }
}

#[test]
fn what_is_no_name_is_refused_with_the_reason() {
    let (format, lowercase) = ("invalid reference format", "must be lowercase");
    for (text, why) in [
        ("", format.to_owned()),
        ("a b", format.into()),
        (":1", format.into()),
        ("a:", format.into()),
        ("a:.x", format.into()),
        ("a@", format.into()),
        ("a@sha256:abc", format.into()),
        ("a@1:0123456789abcdef0123456789abcdef", format.into()),
        ("a//b", format.into()),
        ("a/", format.into()),
        ("/a", format.into()),
        ("-a", format.into()),
        ("a___b", format.into()),
        ("a..b", format.into()),
        ("a.-b", format.into()),
        ("x.com:port/a", format.into()),
        ("x.com:/a", format.into()),
        ("[::1/a", format.into()),
        ("[]/a", format.into()),
        ("[::g]/a", format.into()),
        ("[::1]x/a", format.into()),
        ("-x.com/a", format.into()),
        ("x.com-/a", format.into()),
        ("Nginx", format!("{format}: repository name (library/Nginx) {lowercase}")),
        ("x.com/A/b:t", format!("{format}: repository name (A/b) {lowercase}")),
        ("A_b.com/c", format!("repository name {lowercase}")),
        (
            &"a1".repeat(32),
            format!(
                "invalid repository name ({}), cannot specify 64-byte hexadecimal strings",
                "a1".repeat(32)
            ),
        ),
        (&format!("a@sha256:{}", "a".repeat(63)), "invalid checksum digest length".into()),
        (&format!("a@sha256:{}", "A".repeat(64)), "invalid checksum digest format".into()),
        (&format!("a:t@SHA256:{}", "a".repeat(64)), "invalid checksum digest format".into()),
        (&format!("a@md5:{}", "a".repeat(32)), "unsupported digest algorithm".into()),
    ] {
        assert_eq!(parse(text), Err(why), "{text:?}");
    }
}

#[test]
fn names_and_tags_have_a_length() {
    let too_long = Err("repository name must not be more than 255 characters".to_owned());
    assert!(parse(&format!("x.com/{}", "a".repeat(255))).is_ok());
    assert_eq!(parse(&format!("x.com/{}", "a".repeat(256))), too_long);
    assert_eq!(parse(&format!("x_x.com/{}", "a".repeat(250))), too_long);
    assert!(parse(&format!("a:{}", "t".repeat(128))).is_ok());
    assert_eq!(parse(&format!("a:{}", "t".repeat(129))), Err("invalid reference format".into()));
}

/// Beside the regular expression of a library that knows neither IPv6 addresses nor upper-case registries.
#[test]
fn texts_of_any_kind_mean_the_same_as_in_a_library() {
    use oci_spec::distribution::Reference as Other;
    let pieces =
        ["a", "b0", ".", "-", "_", ":", "/", "@", "x.com", "localhost", ":80", "sha256:", "tag", " "];
    let mut state = 1_u64;
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut text = String::new();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut left = state >> 20;
        for _ in 0..1 + (state >> 8) % 8 {
            text.push_str(pieces[usize::try_from(left % 14).unwrap()]);
            left /= 14;
        }
        if state.is_multiple_of(5) {
            text.push_str(&format!("@sha256:{}", "0f".repeat(32)));
        }
        let (ours, theirs) = (text.parse::<Reference>(), text.parse::<Other>());
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{text:?}: {ours:?}, {theirs:?}");
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            accepted += 1;
            assert_eq!(ours.registry(), theirs.registry(), "{text:?}");
            assert_eq!(ours.repository(), theirs.repository(), "{text:?}");
            assert_eq!(ours.digest(), theirs.digest(), "{text:?}");
            let latest = ours.digest().is_none().then_some("latest");
            assert_eq!(ours.tag().or(latest), theirs.tag(), "{text:?}");
        }
    }
    assert!(accepted > 1000, "{accepted}");
}
