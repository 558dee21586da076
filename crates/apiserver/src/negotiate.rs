//! Which encoding a client speaks, in and out.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::status::{ApiError, Result};

/// An encoding of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// A patch's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, which knows list keys.
    StrategicMerge,
    /// Server-side apply.
    Apply,
}

/// What an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The objects themselves.
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata and its list.
    PartialMetadata,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Output {
    /// The encoding.
    pub encoding: Encoding,
    /// The shape.
    pub shape: Shape,
}

impl Encoding {
    /// The media type of a single answer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The media type of a watch.
    pub fn stream_media_type(self) -> &'static str {
        match self {
            Self::Json | Self::Yaml => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Reads `Accept`. Tables and partial metadata are taken where `shapes` allows them.
///
/// # Errors
/// 406 when nothing that is named can be given.
pub fn accept(headers: &HeaderMap, shapes: bool) -> Result<Output> {
    let Some(accept) =
        headers.get(ACCEPT).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
    else {
        return Ok(Output { encoding: Encoding::Json, shape: Shape::Object });
    };
    let mut clauses: Vec<&str> = accept.split(',').collect();
    // What is liked best comes first; of equals, what is named first.
    clauses.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
    clauses.into_iter().find_map(|clause| one(clause, shapes)).ok_or_else(|| refused(&clauses_of(accept)))
}

/// How much a client likes a media type (RFC 9110, 12.4.2).
fn quality(clause: &str) -> f32 {
    let given = clause.split(';').find_map(|part| part.trim().strip_prefix("q=")?.parse().ok());
    given.unwrap_or(1.0)
}

fn clauses_of(accept: &str) -> Vec<&str> {
    accept.split(',').filter_map(|clause| clause.split(';').next()).map(str::trim).collect()
}

/// 406. Of media types that nothing writes upstream's router says it, of parameters that nothing fits the API.
fn refused(media_types: &[&str]) -> ApiError {
    match media_types.iter().any(|media_type| ACCEPTED.contains(media_type)) {
        true => ApiError::not_acceptable(&ACCEPTED),
        false => {
            let mut error = ApiError::with_code(
                406,
                "NotAcceptable",
                format!(
                    "406: Not Acceptable\n\nAvailable representations: {}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
                    ACCEPTED.join(", ")
                ),
            );
            error.details = Some(Box::default());
            error
        }
    }
}

fn one(clause: &str, shapes: bool) -> Option<Output> {
    let mut parts = clause.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "application/json" | "*/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return None,
    };
    let mut shape = Shape::Object;
    let (mut group_said, mut version_said) = (false, false);
    for part in parts {
        match part.split_once('=') {
            Some(("as", "Table")) => shape = Shape::Table,
            Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                shape = Shape::PartialMetadata;
            }
            Some(("as", _)) => return None,
            Some(("g", group)) if group != "meta.k8s.io" => return None,
            Some(("v", version)) if version != "v1" => return None,
            Some(("g", _)) => group_said = true,
            Some(("v", _)) => version_said = true,
            _ => {}
        }
    }
    if shape != Shape::Object && !(group_said && version_said) {
        return None;
    }
    // A Table is only given where objects are read or written, and never in protobuf.
    if (shape != Shape::Object && !shapes) || (shape == Shape::Table && encoding == Encoding::Protobuf) {
        return None;
    }
    Some(Output { encoding, shape })
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads the `Content-Type` of an object; none means JSON.
///
/// # Errors
/// 415 for what is none of ours.
pub fn content(headers: &HeaderMap) -> Result<Encoding> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Go reads no media type that has a parameter without a value.
    if value.split(';').skip(1).any(|part| !part.trim().is_empty() && !part.contains('=')) {
        return Err(ApiError::unsupported_media_type(&ACCEPTED));
    }
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(ApiError::unsupported_media_type(&ACCEPTED)),
    }
}

/// Reads the `Content-Type` of a patch.
///
/// # Errors
/// 415, as upstream's router says it.
pub fn patch_type(headers: &HeaderMap, strategic: bool) -> Result<PatchType> {
    match media_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" if strategic => Ok(PatchType::StrategicMerge),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ => {
            let mut error = ApiError::with_code(415, "UnsupportedMediaType", "415: Unsupported Media Type");
            error.details = Some(Box::default());
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(text: &str) -> Option<(Encoding, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        accept(&headers, true).ok().map(|output| (output.encoding, output.shape))
    }

    #[test]
    fn what_clients_send() {
        let sent = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            content(&headers).ok()
        };
        assert_eq!(sent("APPLICATION/JSON;charset=utf-8;"), Some(Encoding::Json));
        assert_eq!(sent("application/json; foo"), None);
        assert_eq!(sent("application/vnd.kubernetes.protobuf"), Some(Encoding::Protobuf));
        assert_eq!(sent("text/plain"), None);
    }

    #[test]
    fn what_clients_ask_for() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accepting(table), Some((Encoding::Json, Shape::Table)));
        assert_eq!(
            accepting("application/vnd.kubernetes.protobuf,application/json"),
            Some((Encoding::Protobuf, Shape::Object))
        );
        assert_eq!(
            accepting("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Some((Encoding::Protobuf, Shape::PartialMetadata))
        );
        assert_eq!(accepting("application/cbor, */*"), Some((Encoding::Json, Shape::Object)));
        assert_eq!(accepting("text/html"), None);
        assert_eq!(accepting("application/*"), None, "upstream's router knows no part of a media type");
        assert_eq!(accepting("application/json;as=Table"), None);
        assert_eq!(
            accepting("application/json;q=0.1,application/yaml"),
            Some((Encoding::Yaml, Shape::Object))
        );
    }
}
