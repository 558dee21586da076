use std::collections::HashMap;
use std::pin::Pin;

use cri::v1::image_service_server::ImageService;
use cri::v1::{
    FilesystemIdentifier, FilesystemUsage, Image, ImageFsInfoRequest, ImageFsInfoResponse, ImageSpec,
    ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse, StreamImagesRequest,
    StreamImagesResponse, UInt64Value,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::image_status;
use crate::SharedCore;
use crate::images::{self, Auth, ImageError, Name, Wanted};
use crate::stats;

type Answer<T> = Result<Response<T>, Status>;

/// The image half of the CRI.
pub struct ImageCalls {
    core: SharedCore,
}

impl ImageCalls {
    pub fn new(core: SharedCore) -> Self {
        Self { core }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SharedCore) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, Status> {
        let core = self.core.clone();
        let done = tokio::task::spawn_blocking(move || work(&core)).await;
        done.map_err(|e| Status::internal(e.to_string()))?.map_err(|e| image_status(&e))
    }

    async fn images(&self, filter: Option<ImageSpec>) -> Result<Vec<Image>, Status> {
        let wanted = filter.map(|spec| spec.image).filter(|name| !name.is_empty());
        self.blocking(move |core| {
            let found = match wanted {
                Some(name) => core.images.find(&Wanted::parse(&name)?)?.into_iter().collect(),
                None => core.images.list()?,
            };
            Ok(found.iter().map(image).collect())
        })
        .await
    }
}

fn image(image: &images::Image) -> Image {
    let user = image.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    Image {
        id: image.id.clone(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        uid: uid.map(|value| Int64Value { value }),
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        spec: Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() }),
        pinned: false,
    }
}

fn name(spec: Option<ImageSpec>) -> Result<String, Status> {
    spec.map(|spec| spec.image)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Status::invalid_argument("no image was named"))
}

#[tonic::async_trait]
impl ImageService for ImageCalls {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let images = self.images(request.into_inner().filter.and_then(|filter| filter.image)).await?;
        Ok(Response::new(ListImagesResponse { images }))
    }

    type StreamImagesStream = Pin<Box<dyn Stream<Item = Result<StreamImagesResponse, Status>> + Send>>;

    async fn stream_images(&self, request: Request<StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        let images = self.images(request.into_inner().filter.and_then(|filter| filter.image)).await?;
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(StreamImagesResponse { images })))))
    }

    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let request = request.into_inner();
        let name = name(request.image)?;
        let (found, info) = self
            .blocking(move |core| {
                let found = core.images.find(&Wanted::parse(&name)?)?;
                let mut info = HashMap::new();
                if let Some(image) = found.as_ref().filter(|_| request.verbose) {
                    info.insert("info".to_owned(), core.images.describe(image)?);
                }
                Ok((found, info))
            })
            .await?;
        Ok(Response::new(ImageStatusResponse { image: found.as_ref().map(image), info }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let request = request.into_inner();
        let name = name(request.image)?;
        let pulled = async {
            let (name, auth) = (Name::parse(&name)?, Auth::from_cri(request.auth.as_ref())?);
            images::pull(&self.core.images, &self.core.config.registries, &name, &auth).await
        };
        let image = pulled.await.map_err(|e| image_status(&e))?;
        Ok(Response::new(PullImageResponse { image_ref: image.id }))
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        let name = name(request.into_inner().image)?;
        self.blocking(move |core| {
            core.images.remove(&Wanted::parse(&name)?)?;
            // A container's layers stay until it is gone, even if its image is not. Who has them is looked at only now: the
            // last container that goes later sees that they are to go.
            core.images.collect(&core.images_in_use())
        })
        .await?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _request: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        let usage = self
            .blocking(|core| {
                let timestamp = core.now();
                let of = |path: std::path::PathBuf, (bytes, inodes): (u64, u64)| FilesystemUsage {
                    timestamp,
                    fs_id: Some(FilesystemIdentifier { mountpoint: path.display().to_string() }),
                    used_bytes: Some(UInt64Value { value: bytes }),
                    inodes_used: Some(UInt64Value { value: inodes }),
                };
                let containers = core.config.root.join("containers");
                let written = stats::disk_usage(&containers).map_err(|source| ImageError::Store {
                    what: "reading the size of containers".into(),
                    source,
                })?;
                Ok((of(core.images.layers(), core.images.usage()?), of(containers, written)))
            })
            .await?;
        let (images, containers) = usage;
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![images],
            container_filesystems: vec![containers],
        }))
    }
}
