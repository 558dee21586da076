//! System calls that std does not have, each as one function. Nothing here knows of pods.

pub mod lean;
pub mod mount;
pub mod namespace;
pub mod packet;
pub mod pipe;
pub mod process;
pub mod sysctls;
pub mod users;
