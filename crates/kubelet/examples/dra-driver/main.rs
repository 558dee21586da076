//! A small driver of dynamic resources:
//! `cargo run -p kubelet --example dra-driver -- KUBECONFIG NODE [KUBELET-FOLDER]`.
//!
//! It publishes two devices of the node, and whoever gets one finds a variable in its environment.

mod driver;

use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut words = std::env::args().skip(1);
    let (Some(kubeconfig), Some(node)) = (words.next(), words.next()) else {
        return Err("usage: dra-driver KUBECONFIG NODE [KUBELET-FOLDER]".into());
    };
    let kubelet = words.next().unwrap_or_else(|| "/var/lib/kubelet".to_owned());
    let client = client::connect::kubeconfig(&std::fs::read_to_string(kubeconfig)?).await?;
    let driver = driver::Driver {
        name: "dra.example.com".to_owned(),
        node,
        kubelet: kubelet.into(),
        cdi: "/var/run/cdi".into(),
        devices: 2,
        client,
    };
    driver.run().await
}
