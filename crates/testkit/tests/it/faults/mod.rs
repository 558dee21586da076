//! What goes wrong around a cluster: clocks, clients and their bodies, load, and histories that are gone.

mod bodies;
mod clock;
mod flow;
mod history;
mod store;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
