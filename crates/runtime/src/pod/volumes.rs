//! Volumes that are images: mounted beside the container's root, read-only, and shown by bind mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::{ContainerConfig, Mount};

use super::{Core, PodError, rootfs};
use crate::images::{ImageError, Wanted};
use crate::sys::mount;

fn folder(run_folder: &Path) -> PathBuf {
    run_folder.join("volumes")
}

fn is_image(mount: &Mount) -> bool {
    mount.image.as_ref().is_some_and(|image| !image.image.is_empty())
}

/// The images that a container's volumes are, by id.
pub fn images(config: &ContainerConfig) -> impl Iterator<Item = String> + '_ {
    config
        .mounts
        .iter()
        .filter(|mount| is_image(mount))
        .filter_map(|m| Some(m.image.as_ref()?.image_ref.clone()))
}

/// Names the images that volumes are, for whoever asks about the container later.
pub fn resolve(core: &Core, config: &mut ContainerConfig) -> Result<(), PodError> {
    for mount in config.mounts.iter_mut().filter(|mount| is_image(mount)) {
        let Some(spec) = &mut mount.image else { continue };
        let found = core.images.find(&Wanted::parse(&spec.image)?)?;
        spec.image_ref = found.ok_or_else(|| ImageError::NotFound(spec.image.clone()))?.id;
    }
    Ok(())
}

/// Mounts every volume that is an image, and gives the mounts with the place of each as their host path.
pub fn mount_all(core: &Core, run_folder: &Path, mounts: &[Mount]) -> Result<Vec<Mount>, PodError> {
    let mut shown = mounts.to_vec();
    for (number, wanted) in shown.iter_mut().enumerate().filter(|(_, mount)| is_image(mount)) {
        let id = wanted.image.as_ref().map(|image| image.image_ref.clone()).unwrap_or_default();
        let image = core.images.find(&Wanted::parse(&id)?)?.ok_or(ImageError::NotFound(id))?;
        let at = folder(run_folder).join(number.to_string());
        let failed = |what: &str| PodError::io(format!("volume {}: {what}", wanted.container_path));
        fs::create_dir_all(&at).map_err(failed("making its folder"))?;
        let layers = core.images.layer_folders(&image);
        match layers.as_slice() {
            [] => {}
            [only] => mount::bind(only, &at).map_err(failed("mounting its image"))?,
            layers => {
                let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
                mount::merged(&at, &layers).map_err(failed("mounting its image"))?;
            }
        }
        let inside = rootfs::find(&at, &wanted.image_sub_path);
        let inside =
            inside.map_err(failed(&format!("looking for {:?} in its image", wanted.image_sub_path)))?;
        wanted.host_path = inside.display().to_string();
    }
    Ok(shown)
}

/// Unmounts them. None being there is no error.
pub fn unmount_all(run_folder: &Path) -> Result<(), PodError> {
    let folder = folder(run_folder);
    let failed = || PodError::io(format!("unmounting {}", folder.display()));
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed()(error)),
    };
    for entry in entries {
        mount::detach(&entry.map_err(failed())?.path()).map_err(failed())?;
    }
    Ok(())
}
