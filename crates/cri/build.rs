//! Generates the types and services; protox stands in for protoc, so that nothing need be installed.

use std::error::Error;

const PROTOS: [&str; 7] = [
    "proto/runtime.proto",
    "proto/deviceplugin.proto",
    "proto/pluginregistration.proto",
    "proto/podresources.proto",
    "proto/dra_v1.proto",
    "proto/dra_v1beta1.proto",
    "proto/drahealth.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
        let descriptors = protox::compile([proto], ["proto"])?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
    }
    Ok(())
}
