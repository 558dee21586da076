use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use runtime::ArchiveSource;
use serde_json::json;

use super::*;

fn request(context: &Path, text: &str) -> Request {
    Request {
        file: "Containerfile".into(),
        text: text.into(),
        context: context.into(),
        ignore: String::new(),
        arguments: BTreeMap::from([("VERSION".into(), "2".into())]),
        epoch: Some(5),
        created: "1970-01-01T00:00:05Z".into(),
    }
}

fn context() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("site/css")).unwrap();
    for (file, mode) in
        [("site/index.html", 0o640), ("site/css/a.css", 0o644), ("run", 0o755), ("x.tar", 0o644)]
    {
        fs::write(dir.path().join(file), file).unwrap();
        fs::set_permissions(dir.path().join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(dir.path().join("site/css"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", dir.path().join("site/link")).unwrap();
    dir
}

fn build(text: &str, base: Option<Base>) -> Result<Built, String> {
    let dir = context();
    let text_of = |error: BuildError| format!("{error}: {}", error.source);
    Plan::new(request(dir.path(), text)).map_err(text_of)?.build(base).map_err(text_of)
}

fn config(text: &str, base: Option<Base>) -> Value {
    serde_json::from_slice(&build(text, base).unwrap().config).unwrap()
}

/// `kind mode user:group time path` of each entry.
fn entries(layer: &Packed) -> Vec<String> {
    let mut archive = tar::Archive::new(&layer.file);
    let one = |entry: std::io::Result<tar::Entry<'_, &File>>| {
        let entry = entry.unwrap();
        let header = entry.header();
        let path = entry.path().unwrap().display().to_string();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => 'd',
            tar::EntryType::Symlink => 'l',
            _ => 'f',
        };
        let (mode, user, group) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        format!("{kind} {mode:o} {user}:{group} {} {path}", header.mtime().unwrap())
    };
    archive.entries().unwrap().map(one).collect()
}

#[test]
fn files_land_where_they_shall_with_their_attributes() {
    let built = build("FROM scratch\nWORKDIR /srv\nCOPY site/ .\nCOPY --chown=7 --chmod=500 run x.tar bin/\nCOPY run /srv\nCOPY run to", None).unwrap();
    let layers: Vec<_> = built.layers.iter().map(entries).collect();
    assert_eq!(layers[0], ["d 755 0:0 5 srv"]);
    let site = [
        "d 700 0:0 5 srv/css",
        "f 644 0:0 5 srv/css/a.css",
        "f 640 0:0 5 srv/index.html",
        "l 777 0:0 5 srv/link",
    ];
    assert_eq!(layers[1], site);
    assert_eq!(layers[2], ["d 755 7:7 5 srv/bin", "f 500 7:7 5 srv/bin/run", "f 500 7:7 5 srv/bin/x.tar"]);
    assert_eq!((&layers[3][0], &layers[4][0]), (&"f 755 0:0 5 srv/run".into(), &"f 755 0:0 5 srv/to".into()));
}

#[test]
fn the_same_files_give_the_same_image() {
    let text = "FROM scratch\nCOPY . /\nCMD [\"/run\"]";
    let (one, two) = (build(text, None).unwrap(), build(text, None).unwrap());
    assert_eq!(one.config, two.config);
    assert_eq!(one.layers[0].digest, two.layers[0].digest);
}

#[test]
fn metadata_is_what_the_instructions_say() {
    let text = "ARG VERSION=1\nFROM scratch\nARG VERSION\nENV A=\"x y\" B=${VERSION}\nENV A $A-${C:-c}\nLABEL v=$B\n\
        EXPOSE 80 53/udp\nVOLUME [\"/data\"]\nUSER 5:6\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=2s CMD true $A\n\
        SHELL [\"/bin/ash\", \"-c\"]\nENTRYPOINT [\"/run\", \"$A\"]\nCMD echo $A";
    let image = config(text, None);
    let expected = json!({
        "Env": ["A=x y-c", "B=2"], "Labels": {"v": "2"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}}, "User": "5:6", "StopSignal": "SIGINT",
        "Healthcheck": {"Interval": 2_000_000_000, "Test": ["CMD-SHELL", "true $A"]},
        "Shell": ["/bin/ash", "-c"], "Entrypoint": ["/run", "$A"], "Cmd": ["/bin/ash", "-c", "echo $A"],
    });
    assert_eq!(image["config"], expected);
    assert_eq!(
        image["history"][1],
        json!({"created": "1970-01-01T00:00:05Z", "created_by": "ENV A=\"x y\" B=${VERSION}", "empty_layer": true})
    );
    assert_eq!(image["rootfs"]["diff_ids"], json!([]));
}

#[test]
fn a_base_is_kept_and_its_folders_and_links_are_known() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
    let base = || Base {
        config: json!({"os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "history": [{"created_by": "base"}],
            "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]}}),
        layers: vec![dir.path().to_owned()],
    };
    let text = "FROM base\nENV PATH=$PATH:/opt\nCOPY --chown=9 run /bin\nENTRYPOINT [\"run\"]";
    let built = build(text, Some(base())).unwrap();
    // Neither the link nor the folder that was there is touched.
    assert_eq!(entries(&built.layers[0]), ["f 755 9:9 5 usr/bin/run"]);
    assert_eq!(built.base_layers, 1);
    let image: Value = serde_json::from_slice(&built.config).unwrap();
    assert_eq!(image["config"], json!({"Env": ["PATH=/bin:/opt"], "Entrypoint": ["run"]}));
    assert_eq!(image["rootfs"]["diff_ids"], json!(["sha256:1", built.layers[0].digest]));
    assert_eq!(image["history"].as_array().unwrap().len(), 4);
}

#[test]
fn mistakes_name_file_line_and_way_out() {
    for (text, says) in [
        ("FROM scratch\n\nCOPY none /", "Containerfile:3: none: it is not in the context"),
        ("FROM scratch\nCOPY ../x /", "Containerfile:2: ../x: it leads out of the context"),
        ("FROM scratch\nCOPY run", "Containerfile:2: COPY needs a source and a destination"),
        ("FROM scratch\nCOPY run x.tar /to", "Containerfile:2: /to has to end with /"),
        (
            "FROM scratch\nADD x.tar /",
            "Containerfile:2: ADD of the archive x.tar is not supported: unpack it",
        ),
        ("FROM scratch\nCOPY --chown=web run /", "Containerfile:2: --chown=web: only numbers"),
        ("FROM scratch\nCOPY --parents run /", "Containerfile:2: COPY --parents is not supported"),
        (
            "FROM scratch\nCOPY site /run\nCOPY run /",
            "Containerfile:3: /run: it is in the image already and is a folder",
        ),
        (
            "FROM scratch\nCOPY run /\nCOPY site /run",
            "Containerfile:3: /run: it is in the image already and is not",
        ),
        ("FROM scratch\nENV A", "Containerfile:2: ENV A has no value"),
        ("FROM $NONE", "Containerfile:1: FROM $NONE names no image"),
    ] {
        let error = build(text, None).unwrap_err();
        assert!(error.starts_with(says), "{text}: {error}");
    }
}

#[test]
fn images_can_be_read_back_and_built_upon() {
    let built = build("FROM scratch\nCOPY run /\nCOPY site /site\nENTRYPOINT [\"/run\"]", None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = runtime::ImageStore::open(dir.path()).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    archive::oci(&built, &["docker.io/library/a:1".into(), "e.org/b:2".into()], &file).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut text = Vec::new();
    (&file).read_to_end(&mut text).unwrap();
    // Layers over others are put together by mounts, which need root.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let names =
        runtime::import_image(&store, ArchiveSource::Stream(&mut text.as_slice()), &mut |_, _| {}).unwrap();
    assert_eq!(names, ["docker.io/library/a:1", "e.org/b:2"]);
    let image = &store.list().unwrap()[0];
    let folders = store.layer_folders(image);
    assert_eq!(fs::read_to_string(folders[1].join("run")).unwrap(), "run");
    assert_eq!(fs::read_to_string(folders[0].join("site/css/a.css")).unwrap(), "site/css/a.css");

    // A node takes what is below from what it holds.
    let mut info: Value = serde_json::from_str(&store.describe(image).unwrap()).unwrap();
    let base = Base { config: info["imageSpec"].take(), layers: folders };
    let above = build("FROM e.org/b:2\nCOPY --chown=3 run /site", Some(base)).unwrap();
    let mut archive = Vec::new();
    archive::for_nodes(&above, &["e.org/c:1".into()], &mut archive).unwrap();
    let names = runtime::import_image(&store, ArchiveSource::Stream(&mut archive.as_slice()), &mut |_, _| {})
        .unwrap();
    assert_eq!(names, ["e.org/c:1"]);
    let images = store.list().unwrap();
    let folders = store.layer_folders(images.iter().find(|image| image.tags == names).unwrap());
    assert_eq!(folders.len(), 3);
    assert_eq!(fs::read_to_string(folders[0].join("site/run")).unwrap(), "run");
}
