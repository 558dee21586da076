//! What cgroups have used, which the runtime reads itself.

use serde::Serialize;

/// Nothing of it is told here.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {}
