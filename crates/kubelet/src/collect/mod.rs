//! Clears away what nobody needs: images that no container uses, and logs that have grown.

pub mod images;
pub mod logs;
