//! Generates the CRI types and services; protox stands in for protoc, so that nothing need be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/runtime.proto");
    let descriptors = protox::compile(["proto/runtime.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
