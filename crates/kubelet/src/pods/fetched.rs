//! Which images are there for a pod's containers, and which could not be fetched: a container may name another one by
//! the time it starts. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::memory::{Failure, Job, Memory};
use super::spec::PodExt;

/// An image that is there for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// As the container named it: it may name another one by now.
    pub image: String,
    /// As the runtime knows it.
    pub reference: String,
}

impl Memory {
    /// The reference of the image that a container names, if it is there for it.
    pub fn fetched(&self, container: &Container) -> Option<&str> {
        let wanted = container.image.as_deref().unwrap_or_default();
        let found = self.images.get(&container.name).filter(|fetched| fetched.image == wanted);
        found.map(|fetched| fetched.reference.as_str())
    }

    /// Why the image of a container, or one that it mounts, was not pulled, with that image's name.
    pub fn unpulled<'m>(&'m self, pod: &'m Pod, container: &'m Container) -> Option<(&'m str, &'m Failure)> {
        let of = |job: Job| self.failures.get(&job);
        let name = || container.name.clone();
        let own =
            of(Job::Image(name())).map(|failure| (container.image.as_deref().unwrap_or_default(), failure));
        let mounted = || {
            let failure = of(Job::Start(name())).filter(|failure| failure.is_of_pull())?;
            Some((pod.mounted_images(container).next()?, failure))
        };
        own.or_else(mounted)
    }

    /// A container that names another image by now has not failed to get that one.
    pub fn note_images(&mut self, pod: &Pod) {
        let failures = &mut self.failures;
        self.unfetched.retain(|name, image| {
            let stays = pod.container(name).is_some_and(|c| c.image.as_deref() == Some(image));
            if !stays {
                failures.remove(&Job::Image(name.clone()));
            }
            stays
        });
    }
}
