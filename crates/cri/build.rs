//! Generates the types and services; protox stands in for protoc, so that nothing need be installed.

use std::error::Error;
use std::path::PathBuf;

const PROTOS: [&str; 9] = [
    "runtime",
    "deviceplugin",
    "pluginregistration",
    "podresources",
    "podresources_v1alpha1",
    "dra_v1",
    "dra_v1beta1",
    "drahealth",
    "pods",
];

fn main() -> Result<(), Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "how Cargo tells a build script where it writes")]
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    for name in PROTOS {
        let proto = format!("proto/{name}.proto");
        println!("cargo::rerun-if-changed={proto}");
        let descriptors = protox::compile([proto], ["proto"])?;
        // Packages of one name come from several places.
        let folder = out.join(name);
        std::fs::create_dir_all(&folder)?;
        tonic_prost_build::configure().out_dir(folder).compile_fds(descriptors)?;
    }
    Ok(())
}
