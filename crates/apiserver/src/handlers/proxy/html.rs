//! Pages that are passed on: addresses in them lead back through the proxy (`apimachinery/pkg/util/proxy.Transport`).
//! A page is rewritten as it comes, of whatever size it is; one that is packed is unpacked for it and packed again.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder};
use futures::stream;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use lol_html::errors::RewritingError;
use lol_html::send::{HtmlRewriter, Settings};
use parking_lot::Mutex;

use crate::body::{Body, BoxError};

/// The elements whose attributes are addresses.
const ADDRESSES: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// How a page is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Deflate,
}

/// How the page is packed that an answer has; `None` when it is no page, or is packed in a way that is not known here:
/// then it is passed on as it is.
pub(super) fn page(headers: &HeaderMap) -> Option<Packing> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    match (kind, text(header::CONTENT_ENCODING)) {
        ("text/html", "") => Some(Packing::None),
        ("text/html", "gzip") => Some(Packing::Gzip),
        ("text/html", "deflate") => Some(Packing::Deflate),
        _ => None,
    }
}

/// The same page with other addresses.
pub(super) fn rewritten(
    body: Incoming,
    packing: Packing,
    address: impl Fn(&str) -> String + Send + 'static,
) -> Body {
    let state = Some((body, Page::new(packing, address)));
    let frames = stream::unfold(state, |state| async {
        let (mut body, mut page) = state?;
        loop {
            let made = match body.frame().await {
                None => return Some((page.end().map(Frame::data), None)),
                Some(Err(error)) => Err(error.into()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => page.take(&data),
                    Err(_) => continue,
                },
            };
            match made {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some((Ok(Frame::data(bytes)), Some((body, page)))),
                Err(error) => return Some((Err(error), None)),
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

type Output = Arc<Mutex<Vec<u8>>>;
type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A page on its way.
struct Page {
    unpack: Unpack,
    html: HtmlRewriter<'static, Sink>,
    output: Output,
    pack: Pack,
}

enum Unpack {
    None,
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>),
}

enum Pack {
    None,
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(DeflateEncoder<Vec<u8>>),
}

impl Page {
    fn new(packing: Packing, address: impl Fn(&str) -> String + Send + 'static) -> Self {
        let output = Output::default();
        let into = output.clone();
        let sink: Sink = Box::new(move |chunk: &[u8]| into.lock().extend_from_slice(chunk));
        let rewrite = move |element: &mut lol_html::send::Element<'_, '_>| {
            let tag = element.tag_name();
            let attributes = ADDRESSES.iter().find(|(name, _)| *name == tag);
            for name in attributes.into_iter().flat_map(|(_, attributes)| attributes.iter()) {
                let Some(old) = element.get_attribute(name) else { continue };
                let new = address(&old);
                if new != old {
                    element.set_attribute(name, &new)?;
                }
            }
            Ok(())
        };
        let settings = Settings::new_send()
            .with_strict(false)
            .append_element_content_handler(lol_html::element!("*", rewrite));
        let level = Compression::default();
        let (unpack, pack) = match packing {
            Packing::None => (Unpack::None, Pack::None),
            Packing::Gzip => {
                (Unpack::Gzip(GzDecoder::new(Vec::new())), Pack::Gzip(GzEncoder::new(Vec::new(), level)))
            }
            Packing::Deflate => (
                Unpack::Deflate(DeflateDecoder::new(Vec::new())),
                Pack::Deflate(DeflateEncoder::new(Vec::new(), level)),
            ),
        };
        Self { unpack, html: HtmlRewriter::new(settings, sink), output, pack }
    }

    /// What can be passed on once `data` has come.
    fn take(&mut self, data: &[u8]) -> Result<Bytes, BoxError> {
        match &mut self.unpack {
            Unpack::None => self.html.write(data)?,
            Unpack::Gzip(decoder) => {
                decoder.write_all(data)?;
                self.html.write(&std::mem::take(decoder.get_mut()))?;
            }
            Unpack::Deflate(decoder) => {
                decoder.write_all(data)?;
                self.html.write(&std::mem::take(decoder.get_mut()))?;
            }
        }
        Ok(self.pack.take(std::mem::take(&mut self.output.lock()))?)
    }

    /// What is left.
    fn end(mut self) -> Result<Bytes, BoxError> {
        let rest = match self.unpack {
            Unpack::None => Vec::new(),
            Unpack::Gzip(decoder) => decoder.finish()?,
            Unpack::Deflate(decoder) => decoder.finish()?,
        };
        let ended: Result<(), RewritingError> = self.html.write(&rest).and_then(|()| self.html.end());
        ended?;
        let mut last = self.pack.take(std::mem::take(&mut self.output.lock()))?.to_vec();
        last.extend(match self.pack {
            Pack::None => Vec::new(),
            Pack::Gzip(encoder) => encoder.finish()?,
            Pack::Deflate(encoder) => encoder.finish()?,
        });
        Ok(last.into())
    }
}

impl Pack {
    fn take(&mut self, plain: Vec<u8>) -> io::Result<Bytes> {
        if plain.is_empty() {
            return Ok(Bytes::new());
        }
        // A client is to see what has come, not only what fills a block.
        let packed = match self {
            Self::None => plain,
            Self::Gzip(encoder) => {
                encoder.write_all(&plain)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Deflate(encoder) => {
                encoder.write_all(&plain)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
        };
        Ok(packed.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PAGE: &str = r#"<html manifest='/m'><a href=/x class="/y">a &amp; b</a><img src="/i"><IMG SRC="/i" alt='/n'/><p title="/t">/z</p><script src="s.js">var a = "<a href='/no'>"</script><!-- <a href="/no"> -->"#;
    const WANTED: &str = r#"<html manifest="P/m"><a href="P/x" class="/y">a &amp; b</a><img src="P/i"><IMG SRC="P/i" alt='/n' /><p title="/t">/z</p><script src="s.js">var a = "<a href='/no'>"</script><!-- <a href="/no"> -->"#;

    /// Rewrites in pieces of `size` bytes.
    fn through(packing: Packing, data: &[u8], size: usize) -> Vec<u8> {
        let address = |old: &str| if old.starts_with('/') { format!("P{old}") } else { old.to_owned() };
        let mut page = Page::new(packing, address);
        let mut out = Vec::new();
        for piece in data.chunks(size) {
            out.extend(page.take(piece).unwrap());
        }
        out.extend(page.end().unwrap());
        out
    }

    #[test]
    fn addresses_change_and_nothing_else_does() {
        for size in [1, 7, 4096] {
            let out = through(Packing::None, PAGE.as_bytes(), size);
            assert_eq!(String::from_utf8(out).unwrap(), WANTED, "{size}");
        }
    }

    #[test]
    fn packed_pages_are_unpacked_and_packed_again() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(PAGE.as_bytes()).unwrap();
        let out = through(Packing::Gzip, &packed.finish().unwrap(), 5);
        let mut text = String::new();
        flate2::read::GzDecoder::new(out.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, WANTED);
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
        packed.write_all(PAGE.as_bytes()).unwrap();
        let out = through(Packing::Deflate, &packed.finish().unwrap(), 5);
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(out.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, WANTED);
    }

    #[test]
    fn what_is_no_page_is_left_alone() {
        let of = |kind: &'static str, encoding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
            headers.insert(header::CONTENT_ENCODING, http::HeaderValue::from_static(encoding));
            page(&headers)
        };
        assert_eq!(of("text/html; charset=utf-8", ""), Some(Packing::None));
        assert_eq!(of("text/html", "gzip"), Some(Packing::Gzip));
        assert_eq!(of("text/html", "br"), None);
        assert_eq!(of("application/json", ""), None);
    }
}
