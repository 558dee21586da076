//! What a process says of itself, on standard error: lines for people, or objects in the form of upstream's
//! `--logging-format=json`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Clock;
use kubelet::{LogFormat, Verbosity};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How it is changed what is said.
#[derive(Clone)]
pub struct Log {
    /// How much.
    pub verbosity: Verbosity,
    /// Whether `KNARR_LOG` says that.
    is_chosen: bool,
    json: Arc<AtomicBool>,
}

impl Log {
    /// As much as klog would, where nobody has chosen more exactly.
    ///
    /// # Errors
    /// Why not.
    pub fn level(&self, level: i32) -> Result<(), String> {
        if self.is_chosen { Ok(()) } else { self.verbosity.set(level) }
    }

    /// In which form.
    pub fn format(&self, format: LogFormat) {
        self.json.store(format == LogFormat::Json, Ordering::Relaxed);
    }
}

/// Logs what `KNARR_LOG` chooses, or as much as klog would at that level; later whoever has what is returned chooses.
pub fn log(level: Option<i32>, format: Option<LogFormat>) -> Log {
    // Our clients say when their server is away, once, and theirs each time.
    let usual = |level: &str| {
        let others = match level {
            "info" => "kube_client=off,",
            "debug" => {
                "h2=info,hyper=info,hyper_util=info,kube_client=info,rustls=info,tonic=info,tower=info,"
            }
            _ => "",
        };
        EnvFilter::new(format!("{level},{others}lsm_tree=warn,fjall=warn"))
    };
    let chosen = EnvFilter::try_from_env("KNARR_LOG").ok();
    let is_chosen = chosen.is_some();
    let filter = chosen.unwrap_or_else(|| usual(named(level.unwrap_or(0))));
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let json = Arc::new(AtomicBool::new(false));
    let lines = Lines { text: Format::default(), json: json.clone(), clock: base::SystemClock::shared() };
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).event_format(lines);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let verbosity =
        Verbosity::new(move |level| handle.reload(usual(named(level))).map_err(|error| error.to_string()));
    let log = Log { verbosity, is_chosen, json };
    log.format(format.unwrap_or_default());
    log
}

/// The level of ours that says as much as one of klog's.
fn named(level: i32) -> &'static str {
    match level {
        ..=3 => "info",
        4..=5 => "debug",
        6.. => "trace",
    }
}

/// Writes lines in either form.
struct Lines {
    text: Format,
    json: Arc<AtomicBool>,
    clock: base::SharedClock,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !self.json.load(Ordering::Relaxed) {
            return self.text.format_event(context, writer, event);
        }
        let mut object = Object::default();
        event.record(&mut object);
        writeln!(writer, "{}", object.line(event, self.clock.as_ref()))
    }
}

/// The fields of an event.
#[derive(Default)]
struct Object {
    message: String,
    fields: Map<String, Value>,
}

impl Object {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("error", value) => drop(self.fields.insert("err".to_owned(), value)),
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }

    /// As upstream writes it: milliseconds, and how much has to be said for it to be said, but for errors.
    fn line(mut self, event: &Event<'_>, clock: &dyn Clock) -> Value {
        let mut line = Map::new();
        let millis = clock.now().as_nanosecond() / 1000;
        line.insert("ts".to_owned(), json!(millis as f64 / 1000.0));
        line.insert("logger".to_owned(), json!(event.metadata().target()));
        line.insert("msg".to_owned(), json!(self.message));
        let verbosity = match *event.metadata().level() {
            Level::ERROR => None,
            Level::WARN | Level::INFO => Some(0),
            Level::DEBUG => Some(4),
            Level::TRACE => Some(6),
        };
        line.extend(verbosity.map(|verbosity| ("v".to_owned(), json!(verbosity))));
        line.append(&mut self.fields);
        Value::Object(line)
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, json!(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Said {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn lines_are_for_people_or_for_programs() {
        let (said, json) = (Said::default(), Arc::new(AtomicBool::new(true)));
        let lines = Lines { text: Format::default(), json: json.clone(), clock: base::SystemClock::shared() };
        let layer =
            tracing_subscriber::fmt::layer().with_writer(said.clone()).with_ansi(false).event_format(lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(error = %"no", pods = 3, name = "a\"b", "it {}", "went wrong");
            tracing::error!("bad");
            json.store(false, Ordering::Relaxed);
            tracing::info!(pods = 3, "well");
        });
        let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        let read = |line: &str| {
            let mut object: Map<String, Value> = serde_json::from_str(line).unwrap();
            assert!(object.remove("ts").unwrap().as_f64().unwrap() > 1e12, "{line}");
            assert!(object.remove("logger").unwrap().as_str().unwrap().contains("log"), "{line}");
            Value::Object(object)
        };
        let wrong = json!({"msg": "it went wrong", "v": 0, "err": "no", "pods": 3, "name": "a\"b"});
        assert_eq!((read(lines[0]), read(lines[1])), (wrong, json!({"msg": "bad"})));
        assert!(lines[2].contains("INFO") && lines[2].ends_with("well pods=3"), "{}", lines[2]);
    }
}
