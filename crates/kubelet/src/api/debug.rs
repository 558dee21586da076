//! `/debug/…`: how much is logged, and how the process was called. Profiles are those of Go programs, which this is not.

use http::{Method, Response, StatusCode};

use super::{Body, Refusal, Server, full};

fn disabled(what: &str) -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("{what} endpoint is disabled.\n"))
}

fn plain(text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
    headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
    response
}

/// `PUT /debug/flags/v`: a number, as klog's.
pub fn verbosity(server: &Server, method: &Method, text: &str) -> Result<Response<Body>, Refusal> {
    let config = &server.shared.config;
    if !config.configuration.fields.enable_debug_flags_handler {
        return Err(disabled("flags"));
    }
    if method != Method::PUT {
        return Err(Refusal(StatusCode::NOT_ACCEPTABLE, "unsupported http method".to_owned()));
    }
    let refuse =
        |why: String| Refusal::bad_request(format!("failed set klog.logging.verbosity {text}: {why}"));
    let level = text.trim().parse::<i32>();
    let level = level.map_err(|_| refuse(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
    match &config.verbosity {
        Some(set) => set.set(level).map_err(refuse)?,
        None => return Err(refuse("this process does not change how much it logs".to_owned())),
    }
    Ok(plain(format!("successfully set klog.logging.verbosity to {}", text.trim())))
}

/// `/debug/pprof/…`
pub fn profile(server: &Server, parts: &[&str]) -> Result<Response<Body>, Refusal> {
    if !server.shared.config.configuration.fields.enable_profiling_handler {
        return Err(disabled("profiling"));
    }
    match parts {
        [] | [""] => Ok(plain("cmdline\n".to_owned())),
        ["cmdline"] => {
            let line = std::fs::read("/proc/self/cmdline").map_err(Refusal::internal)?;
            let line = String::from_utf8_lossy(&line).trim_end_matches('\0').to_owned();
            Ok(plain(line))
        }
        _ => Err(Refusal::not_found("Unknown profile\n")),
    }
}
