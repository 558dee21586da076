//! Validating webhooks, asked over TLS: who is asked, what they are told, and what their answers do.

mod answers;
mod bench;
mod rules;
mod server;
