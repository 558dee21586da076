//! What systemd-logind is asked: to hold the shutdown back for a while, and to say when it is about to come.
//! <https://systemd.io/INHIBITOR_LOCKS/>

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use crate::bus::{Bus, BusError, Kind, Message, Value};

const SERVICE: &str = "org.freedesktop.login1";
const OBJECT: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SIGNAL: &str = "PrepareForShutdown";
/// How often, and with which pauses, the delay is read again after logind was told to allow a longer one.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Why the shutdown cannot be held back.
#[derive(Debug, thiserror::Error)]
pub enum LogindError {
    /// The bus, or logind.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A longer delay cannot be written down.
    #[error("writing {path}: {source}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was, and has no effect.
    #[error(
        "logind allows a shutdown to be held back for {allowed:?}, and {wanted:?} are wanted: set InhibitDelayMaxSec in logind.conf"
    )]
    TooShort {
        /// What is allowed.
        allowed: Duration,
        /// What is wanted.
        wanted: Duration,
    },
}

/// A connection to logind.
pub struct Logind(Bus);

/// Holds the shutdown back until it is dropped.
pub struct Inhibitor(#[expect(dead_code, reason = "it is held, and closed when it is dropped")] OwnedFd);

impl Logind {
    /// Connects, and listens from now on.
    ///
    /// # Errors
    /// When there is no bus, or it does not answer.
    pub async fn connect(bus: &Path) -> Result<Self, LogindError> {
        let mut bus = Bus::connect(bus).await?;
        let rule = format!("type='signal',interface='{MANAGER}',member='{SIGNAL}',path='{OBJECT}'");
        bus.of_bus("AddMatch", vec![Value::Text(rule)]).await?;
        Ok(Self(bus))
    }

    async fn ask(&mut self, interface: &str, member: &str, body: &[&str]) -> Result<Message, BusError> {
        let message = Message {
            path: OBJECT.to_owned(),
            interface: interface.to_owned(),
            member: member.to_owned(),
            destination: SERVICE.to_owned(),
            body: body.iter().map(|&text| Value::Text(text.to_owned())).collect(),
            ..Message::new(Kind::Call, 0)
        };
        self.0.call(message).await
    }

    /// Whether the machine is about to be shut down already.
    ///
    /// # Errors
    /// When logind does not tell.
    pub async fn is_preparing(&mut self) -> Result<bool, LogindError> {
        match self.property("PreparingForShutdown").await? {
            Value::Bool(is) => Ok(is),
            _ => Err(BusError::Answer("PreparingForShutdown").into()),
        }
    }

    /// For how long a shutdown can be held back.
    async fn allowed(&mut self) -> Result<Duration, BusError> {
        match self.property("InhibitDelayMaxUSec").await? {
            Value::Uint64(micros) => Ok(Duration::from_micros(micros)),
            _ => Err(BusError::Answer("InhibitDelayMaxUSec")),
        }
    }

    async fn property(&mut self, name: &'static str) -> Result<Value, BusError> {
        let answer = self.ask("org.freedesktop.DBus.Properties", "Get", &[MANAGER, name]).await?;
        match answer.body.into_iter().next() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Err(BusError::Answer(name)),
        }
    }

    /// Sees to it that a shutdown can be held back for that long; `drop_in` is a file of logind's configuration for it.
    ///
    /// # Errors
    /// [`LogindError`].
    pub async fn allow(&mut self, wanted: Duration, drop_in: &Path) -> Result<(), LogindError> {
        if wanted <= self.allowed().await? {
            return Ok(());
        }
        let text = format!(
            "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={}\n",
            wanted.as_secs_f64().ceil()
        );
        let failed = |source| LogindError::Write { path: drop_in.display().to_string(), source };
        if let Some(folder) = drop_in.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(drop_in, text).map_err(failed)?;
        self.reload().await?;
        let (mut attempt, mut pause) = (1, FIRST_PAUSE);
        loop {
            let allowed = self.allowed().await?;
            if wanted <= allowed {
                return Ok(());
            }
            if attempt == ATTEMPTS {
                return Err(LogindError::TooShort { allowed, wanted });
            }
            tokio::time::sleep(pause).await;
            (attempt, pause) = (attempt + 1, pause * 2);
        }
    }

    /// Has logind read its configuration again: by a signal to its process, which systemd sends.
    async fn reload(&mut self) -> Result<(), BusError> {
        let body = vec![
            Value::Text("systemd-logind.service".to_owned()),
            Value::Text("all".to_owned()),
            Value::Int32(nix::libc::SIGHUP),
        ];
        let message = Message {
            path: "/org/freedesktop/systemd1".to_owned(),
            interface: "org.freedesktop.systemd1.Manager".to_owned(),
            member: "KillUnit".to_owned(),
            destination: "org.freedesktop.systemd1".to_owned(),
            body,
            ..Message::new(Kind::Call, 0)
        };
        self.0.call(message).await.map(drop)
    }

    /// Holds the next shutdown back.
    ///
    /// # Errors
    /// When logind refuses.
    pub async fn inhibit(&mut self) -> Result<Inhibitor, LogindError> {
        let body = ["shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay"];
        self.ask(MANAGER, "Inhibit", &body).await?;
        let held = self.0.take_fd().ok_or(BusError::Answer("Inhibit"))?;
        Ok(Inhibitor(held))
    }

    /// Until the machine is about to be shut down (`true`), or is not any more.
    ///
    /// # Errors
    /// When the bus is gone.
    pub async fn next(&mut self) -> Result<bool, LogindError> {
        loop {
            let message = self.0.next().await?;
            if message.kind == Kind::Signal && message.interface == MANAGER && message.member == SIGNAL {
                if let [Value::Bool(begins)] = message.body.as_slice() {
                    return Ok(*begins);
                }
            }
        }
    }
}
