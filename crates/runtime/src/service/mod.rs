//! The CRI's calls, translated. What they mean is decided in `pod` and `images`.

mod images;
mod runtime;

pub use images::ImageCalls;
pub use runtime::RuntimeCalls;

use tonic::Status;

use crate::images::{ImageError, text};
use crate::pod::PodError;

/// An image error in gRPC's words.
pub fn image_status(error: &ImageError) -> Status {
    let text = text(error);
    match error {
        ImageError::NotFound(_) | ImageError::Missing { .. } => Status::not_found(text),
        ImageError::Reference(..) | ImageError::Archive(_) => Status::invalid_argument(text),
        ImageError::Denied { .. } => Status::permission_denied(text),
        ImageError::Registry { .. } => Status::unavailable(text),
        _ => Status::unknown(text),
    }
}

/// A pod error in gRPC's words.
fn pod_status(error: PodError) -> Status {
    let text = text(&error);
    match &error {
        PodError::NoSandbox(_) | PodError::NoContainer(_) => Status::not_found(text),
        PodError::State(_) => Status::failed_precondition(text),
        PodError::Invalid(_) | PodError::Plan(_) => Status::invalid_argument(text),
        PodError::Timeout(_) => Status::deadline_exceeded(text),
        PodError::Image(error) => image_status(error),
        _ => Status::unknown(text),
    }
}
