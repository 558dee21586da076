//! What may be asked of a container's log (`PodLogOptions`).

use jiff::Timestamp;
use kinds::field::{Errors, Path};
use kinds::gates::{Gate, Gates};

use crate::options::go_int;
use crate::pipeline::request::RequestInfo;
use crate::status::{ApiError, Result};

/// What a log can be of.
const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// What is asked for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LogOptions {
    follow: bool,
    previous: bool,
    timestamps: bool,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
    /// `Stdout`, `Stderr` or both (`All`).
    stream: Option<String>,
}

impl LogOptions {
    /// Reads the query of a request for a pod's log.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what makes no sense (`ValidatePodLogOptions`).
    pub fn of(info: &RequestInfo, pod: &str, gates: Gates) -> Result<Self> {
        let options = Self::read(|name| info.param(name))?;
        let errors = options.errors(gates.has(Gate::PodLogsQuerySplitStreams));
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(ApiError::invalid("", "PodLogOptions", pod, &errors))
        }
    }

    fn read<'q>(param: impl Fn(&str) -> Option<&'q str>) -> Result<Self> {
        let flag =
            |name: &str| param(name).is_some_and(|text| text != "0" && !text.eq_ignore_ascii_case("false"));
        let number = |name: &str| param(name).map(go_int).transpose();
        let time = |text: &str| {
            schema::time::parse_rfc3339(text).map_err(|error| ApiError::bad_request(error.to_string()))
        };
        let since_time =
            param("sinceTime").filter(|text| !matches!(*text, "" | "null")).map(time).transpose()?;
        Ok(Self {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            since_seconds: number("sinceSeconds")?,
            since_time,
            tail_lines: number("tailLines")?,
            limit_bytes: number("limitBytes")?,
            stream: param("stream").map(str::to_owned),
        })
    }

    /// What makes no sense, with streams of their own or without.
    fn errors(&self, split: bool) -> Errors {
        let mut errors = Errors::new();
        let path = Path::new;
        if let Some(lines) = self.tail_lines.filter(|lines| *lines < 0) {
            errors.invalid(&path("tailLines"), lines, "must be greater than or equal to 0");
        }
        if let Some(bytes) = self.limit_bytes.filter(|bytes| *bytes < 1) {
            errors.invalid(&path("limitBytes"), bytes, "must be greater than 0");
        }
        match (self.since_seconds, self.since_time) {
            (Some(_), Some(_)) => {
                errors
                    .forbidden(&path("[]"), "at most one of `sinceTime` or `sinceSeconds` may be specified");
            }
            (Some(seconds), None) if seconds < 1 => {
                errors.invalid(&path("sinceSeconds"), seconds, "must be greater than 0");
            }
            _ => {}
        }
        match self.stream.as_deref() {
            // One that nobody names is all of it, by default.
            None | Some("All") if split => {}
            Some(stream) if split && !STREAMS.contains(&stream) => {
                errors.not_supported(&path("stream"), stream, &STREAMS);
                self.one_stream(&mut errors);
            }
            Some(_) if split => self.one_stream(&mut errors),
            None => {}
            Some(_) => errors.forbidden(&path("stream"), "may not be specified"),
        }
        errors
    }

    /// How many lines of one stream the end of a log has, nobody knows.
    fn one_stream(&self, errors: &mut Errors) {
        if self.tail_lines.is_some() {
            let why = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.forbidden(&Path::new(""), why);
        }
    }

    /// The query for a kubelet, in the order of its names.
    pub fn query(&self) -> Vec<(String, String)> {
        let flag = |set: bool| set.then(|| "true".to_owned());
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        let second =
            |time: Timestamp| Timestamp::from_second(time.as_second()).ok().map(|time| time.to_string());
        let all = [
            ("follow", flag(self.follow)),
            ("limitBytes", number(self.limit_bytes)),
            ("previous", flag(self.previous)),
            ("sinceSeconds", number(self.since_seconds)),
            ("sinceTime", self.since_time.and_then(second)),
            ("stream", self.stream.clone()),
            ("tailLines", number(self.tail_lines)),
            ("timestamps", flag(self.timestamps)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &'static str)]) -> Result<LogOptions> {
        LogOptions::read(|name| query.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    #[test]
    fn a_kubelet_is_asked_for_what_was_understood() {
        let asked = [
            ("timestamps", "1"),
            ("follow", ""),
            ("previous", "FALSE"),
            ("tailLines", "3"),
            ("limitBytes", "9"),
            ("sinceTime", "2020-01-01T01:00:00.5+01:00"),
            ("container", "c"),
            ("insecureSkipTLSVerifyBackend", "true"),
        ];
        let query = read(&asked).unwrap().query();
        let query: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let wanted = [
            ("follow", "true"),
            ("limitBytes", "9"),
            ("sinceTime", "2020-01-01T00:00:00Z"),
            ("tailLines", "3"),
            ("timestamps", "true"),
        ];
        assert_eq!(query, wanted);
        assert_eq!(read(&[]).unwrap(), LogOptions::default());
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_go_words() {
        for (name, text, told) in [
            ("tailLines", "x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "limitBytes",
                "9223372036854775808",
                "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
            ),
            (
                "sinceTime",
                "x",
                "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
            ),
        ] {
            let error = read(&[(name, text)]).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (400, told));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (query, count) in [
            (vec![("tailLines", "0"), ("sinceSeconds", "1"), ("limitBytes", "1")], 0),
            (vec![("tailLines", "-1"), ("sinceSeconds", "0"), ("limitBytes", "0")], 3),
            (vec![("sinceSeconds", "5"), ("sinceTime", "2020-01-01T00:00:00Z")], 1),
            (vec![("stream", "Stdout")], 1),
        ] {
            assert_eq!(read(&query).unwrap().errors(false).0.len(), count, "{query:?}");
        }
        let split = |query: &[(&str, &'static str)]| {
            let errors = read(query).unwrap().errors(true);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(split(&[("stream", "All"), ("tailLines", "1")]).is_empty() && split(&[]).is_empty());
        assert!(split(&[("stream", "Stderr")]).is_empty());
        let two = split(&[("stream", "stderr"), ("tailLines", "1")]);
        assert_eq!(
            two,
            [
                r#"stream: Unsupported value: "stderr": supported values: "All", "Stderr", "Stdout""#,
                "<nil>: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
            ]
        );
    }
}
