//! Volumes that the runtime itself mounts beside the container's root, to be shown by bind mounts: images, which can
//! only be read, and those whose owners are mapped to the pod's users.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::{ContainerConfig, Mount};

use super::sandbox::Sandbox;
use super::{Core, PodError, rootfs};
use crate::images::{ImageError, Wanted};
use crate::plan::sandbox_options;
use crate::sys::{mount, users};

/// Ends the names of folders with mapped layers.
const LAYERS: &str = "layers";

/// Where the layers of a container's root are while they are mapped.
pub fn root_layers(run_folder: &Path) -> PathBuf {
    folder(run_folder).join("root").with_extension(LAYERS)
}

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

/// Mounts every volume that is an image or whose owners are mapped, and gives the mounts with the place of each as
/// their host path.
pub fn mount_all(
    core: &Core,
    sandbox: &Sandbox,
    run_folder: &Path,
    mounts: &[Mount],
) -> Result<Vec<Mount>, PodError> {
    let mut shown = mounts.to_vec();
    let namespace = sandbox.user_namespace();
    let pod = sandbox_options(&sandbox.config).userns_options.unwrap_or_default();
    for (number, wanted) in shown.iter_mut().enumerate() {
        let at = folder(run_folder).join(number.to_string());
        if is_image(wanted) {
            show_image(core, wanted, &at, namespace.as_deref())?;
        } else if let Some(namespace) = &namespace
            && !wanted.uid_mappings.is_empty()
            && (&wanted.uid_mappings, &wanted.gid_mappings) == (&pod.uids, &pod.gids)
        {
            show_mapped(wanted, &at, namespace)?;
        } else {
            continue;
        }
        (wanted.uid_mappings, wanted.gid_mappings) = (Vec::new(), Vec::new());
    }
    Ok(shown)
}

fn show_image(core: &Core, wanted: &mut Mount, at: &Path, namespace: Option<&Path>) -> Result<(), PodError> {
    let id = wanted.image.as_ref().map(|image| image.image_ref.clone()).unwrap_or_default();
    let image = core.images.find(&Wanted::parse(&id)?)?.ok_or(ImageError::NotFound(id))?;
    let failed = |what: &str| PodError::io(format!("volume {}: {what}", wanted.container_path));
    fs::create_dir_all(at).map_err(failed("making its folder"))?;
    let layers = core.images.layer_folders(&image);
    let show = || match (layers.as_slice(), namespace) {
        ([], _) => Ok(()),
        ([only], None) => mount::bind(only, at),
        ([only], Some(namespace)) => users::bind_mapped(only, at, namespace),
        (_, None) => mount::merged(at, &layers.iter().map(PathBuf::as_path).collect::<Vec<_>>()),
        (_, Some(namespace)) => {
            let mapped = MappedLayers::new(&layers, &at.with_extension(LAYERS), namespace)?;
            mount::merged(at, &mapped.paths())
        }
    };
    show().map_err(failed("mounting its image"))?;
    let inside = rootfs::find(at, &wanted.image_sub_path);
    let inside = inside.map_err(failed(&format!("looking for {:?} in its image", wanted.image_sub_path)))?;
    wanted.host_path = inside.display().to_string();
    Ok(())
}

fn show_mapped(wanted: &mut Mount, at: &Path, namespace: &Path) -> Result<(), PodError> {
    let failed = |what: &str| PodError::io(format!("volume {}: {what}", wanted.container_path));
    let from = Path::new(&wanted.host_path);
    make_source(from)?;
    if from.is_dir() {
        fs::create_dir_all(at).map_err(failed("making its folder"))?;
    } else {
        fs::create_dir_all(folder_of(at)).map_err(failed("making its folder"))?;
        fs::File::create(at).map_err(failed("making its file"))?;
    }
    let mapped = users::bind_mapped(from, at, namespace);
    mapped.map_err(failed("mapping its owners to the pod's users, which its file system may not support"))?;
    wanted.host_path = at.display().to_string();
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// As other runtimes do: a folder that is to be mounted and is not there yet is made.
pub fn make_source(path: &Path) -> Result<(), PodError> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(PodError::io(format!("making {}", path.display())))
}

/// Layers whose owners are mapped. An overlay keeps what it was made of, so they go when this is dropped.
pub struct MappedLayers(Vec<PathBuf>);

impl MappedLayers {
    /// Shows them below `at`.
    pub fn new(layers: &[PathBuf], at: &Path, namespace: &Path) -> io::Result<Self> {
        let mut mapped = Self(Vec::new());
        for (number, layer) in layers.iter().enumerate() {
            let here = at.join(number.to_string());
            fs::create_dir_all(&here)?;
            users::bind_mapped(layer, &here, namespace)?;
            mapped.0.push(here);
        }
        Ok(mapped)
    }

    /// Where they are, topmost first.
    pub fn paths(&self) -> Vec<&Path> {
        self.0.iter().map(PathBuf::as_path).collect()
    }
}

impl Drop for MappedLayers {
    fn drop(&mut self) {
        for layer in &self.0 {
            // What stays is unmounted with the container.
            if let Err(error) = mount::detach(layer).and_then(|()| fs::remove_dir(layer)) {
                tracing::warn!(layer = %layer.display(), %error, "a mapped layer stays mounted for now");
            }
        }
    }
}

/// Unmounts them, and the layers that a killed runtime left. None being there is no error.
pub fn unmount_all(run_folder: &Path) -> Result<(), PodError> {
    let folder = folder(run_folder);
    let failed = || PodError::io(format!("unmounting {}", folder.display()));
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed())?.path();
            match path.extension() {
                Some(extension) if extension == LAYERS => folders.push(path),
                _ => mount::detach(&path).map_err(failed())?,
            }
        }
    }
    Ok(())
}
