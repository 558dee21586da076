//! What is served and should not be used any more, which every answer says.

use http::Response;

use crate::body::Body;
use crate::registry::Resource;
use crate::status::Result;

/// What is said of a resource.
fn told(resource: &Resource) -> Option<&'static str> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// Says it beside an answer, whatever it is.
pub(super) fn tell(resource: &Resource, answer: Result<Response<Body>>) -> Result<Response<Body>> {
    let Some(told) = told(resource) else { return answer };
    let told = vec![told.to_owned()];
    match answer {
        Ok(mut response) => {
            crate::warning::add(response.headers_mut(), &told);
            Ok(response)
        }
        Err(error) => Err(error.warned(told)),
    }
}
