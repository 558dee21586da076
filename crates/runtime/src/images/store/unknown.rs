//! Layers and blobs of which nobody made an image.

use super::{ImageError, Store};
use crate::images::layer;

impl Store {
    /// Has the layers and blobs go with [`Store::collect`] that no image has: whoever brought them was killed before their
    /// image was known. Only while nobody unpacks.
    pub(super) fn note_unknown(&self) -> Result<(), ImageError> {
        let index = self.index()?;
        let mut all = layer::all(&self.layers()).map_err(ImageError::store("listing layers"))?;
        all.retain(|chain| !index.has(chain) && !index.leaving.contains(chain));
        let mut blobs = self.unknown_blobs(&index)?;
        if all.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        self.change(|index| {
            index.leaving.append(&mut all);
            index.leaving_blobs.append(&mut blobs);
            Ok(())
        })
    }
}
