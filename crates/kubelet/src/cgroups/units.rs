//! Groups that systemd makes: it owns the tree of cgroups of a machine on which it runs, and a runtime that asks it for
//! its containers' scopes wants them in slices of which it knows.
//! <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Limits, PERIOD, weight};
use crate::bus::{Bus, BusError, Kind, Message, Value};

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// How long systemd may take for a job, as upstream.
const PATIENCE: Duration = Duration::from_secs(30);
/// systemd counts processor time for a second, in steps of so many microseconds.
const STEP: i64 = 10_000;
const SECOND: i64 = 1_000_000;

/// systemd, behind a message bus. Each change has a connection of its own: one that is kept would have to be read from,
/// as each job of the machine is told to all who listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    bus: PathBuf,
    unified: bool,
}

impl Units {
    /// Looks whether systemd answers.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn find(bus: &Path, unified: bool) -> Result<Self, BusError> {
        let units = Self { bus: bus.to_owned(), unified };
        Conversation::begin(&units.bus).await?;
        Ok(units)
    }

    /// Starts a slice, or changes one that is there.
    pub async fn start(&self, unit: &str, limits: &Limits) -> io::Result<()> {
        let mut systemd = self.ask().await?;
        let body = vec![
            Value::Text(unit.to_owned()),
            Value::Text("replace".to_owned()),
            Value::Properties(start_properties(unit, limits, self.unified)),
            Value::NoUnits,
        ];
        match systemd.job("StartTransientUnit", body).await {
            Err(BusError::Refused { name, .. }) if name.ends_with(".UnitExists") => {
                systemd.set(unit, properties(limits, self.unified)).await
            }
            other => other,
        }
        .map_err(io::Error::other)
    }

    /// Changes what a slice may use.
    pub async fn set(&self, unit: &str, limits: &Limits) -> io::Result<()> {
        let properties = properties(limits, self.unified);
        if properties.is_empty() {
            return Ok(());
        }
        self.ask().await?.set(unit, properties).await.map_err(io::Error::other)
    }

    /// Stops a slice. One that is not there is no error.
    pub async fn stop(&self, unit: &str) -> io::Result<()> {
        let body = vec![Value::Text(unit.to_owned()), Value::Text("replace".to_owned())];
        match self.ask().await?.job("StopUnit", body).await {
            Err(BusError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            other => other.map_err(io::Error::other),
        }
    }

    async fn ask(&self) -> io::Result<Conversation> {
        Conversation::begin(&self.bus).await.map_err(io::Error::other)
    }
}

struct Conversation(Bus);

impl Conversation {
    async fn begin(path: &Path) -> Result<Self, BusError> {
        let mut bus = Bus::connect(path).await?;
        let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved',path='{OBJECT}'");
        bus.of_bus("AddMatch", vec![Value::Text(rule)]).await?;
        let mut systemd = Self(bus);
        // Without a listener it tells nothing.
        systemd.call("Subscribe", Vec::new()).await?;
        Ok(systemd)
    }

    async fn call(&mut self, member: &str, body: Vec<Value>) -> Result<Message, BusError> {
        let message = Message {
            path: OBJECT.to_owned(),
            interface: MANAGER.to_owned(),
            member: member.to_owned(),
            destination: SERVICE.to_owned(),
            body,
            ..Message::new(Kind::Call, 0)
        };
        self.0.call(message).await
    }

    async fn set(&mut self, unit: &str, properties: Vec<(String, Value)>) -> Result<(), BusError> {
        // They hold until the machine starts again.
        let body = vec![Value::Text(unit.to_owned()), Value::Bool(true), Value::Properties(properties)];
        self.call("SetUnitProperties", body).await.map(drop)
    }

    /// Asks for something that becomes a job, and waits for its end.
    async fn job(&mut self, member: &'static str, body: Vec<Value>) -> Result<(), BusError> {
        let answer = self.call(member, body).await?;
        let Some(Value::Path(job)) = answer.body.into_iter().next() else {
            return Err(BusError::Answer(member));
        };
        let ended = tokio::time::timeout(PATIENCE, self.end_of(&job)).await;
        let result = ended.unwrap_or_else(|_| Err(BusError::Silent(member.to_owned())))?;
        if result == "done" {
            return Ok(());
        }
        let name = "JobRemoved".to_owned();
        Err(BusError::Refused { call: member.to_owned(), name, message: result })
    }

    async fn end_of(&mut self, job: &str) -> Result<String, BusError> {
        loop {
            let told = self.0.next().await?;
            if let (Kind::Signal, "JobRemoved", [_, Value::Path(path), _, Value::Text(result)]) =
                (told.kind, told.member.as_str(), told.body.as_slice())
                && path == job
            {
                return Ok(result.clone());
            }
        }
    }
}

/// What a slice that is started has besides its limits.
fn start_properties(unit: &str, limits: &Limits, unified: bool) -> Vec<(String, Value)> {
    let disk = if unified { "IOAccounting" } else { "BlockIOAccounting" };
    let counted = ["CPUAccounting", "MemoryAccounting", disk, "TasksAccounting"];
    let described = ("Description".to_owned(), Value::Text(format!("Pods of Kubernetes in {unit}")));
    let alone = ("DefaultDependencies".to_owned(), Value::Bool(false));
    let counted = counted.into_iter().map(|name| (name.to_owned(), Value::Bool(true)));
    [described, alone].into_iter().chain(counted).chain(properties(limits, unified)).collect()
}

/// Limits as systemd names them. It knows nothing of huge pages.
fn properties(limits: &Limits, unified: bool) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut set = |name: &str, value: i64| {
        // What is below 0 is without a limit.
        all.push((name.to_owned(), Value::Uint64(u64::try_from(value).unwrap_or(u64::MAX))));
    };
    if let Some(shares) = limits.cpu_shares {
        match unified {
            true => set("CPUWeight", weight(shares)),
            false => set("CPUShares", shares),
        }
    }
    if let Some(quota) = limits.cpu_quota {
        let per_second = quota.saturating_mul(SECOND / PERIOD);
        let rounded = (per_second + STEP - 1) / STEP * STEP;
        set("CPUQuotaPerSecUSec", if quota > 0 { rounded } else { -1 });
    }
    if let Some(memory) = limits.memory {
        set(if unified { "MemoryMax" } else { "MemoryLimit" }, memory);
    }
    for (name, bytes) in [("MemoryMin", limits.kept.never_taken), ("MemoryLow", limits.kept.taken_last)] {
        if let Some(bytes) = bytes.filter(|_| unified) {
            set(name, bytes);
        }
    }
    if let Some(pids) = limits.pids {
        set("TasksMax", pids);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::daemon::Daemon;
    use crate::cgroups::KeptMemory;

    #[test]
    fn limits_are_properties() {
        let limits = Limits {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_500),
            memory: Some(1 << 20),
            pids: Some(-1),
            kept: KeptMemory { never_taken: Some(7), taken_last: Some(0) },
            ..Limits::default()
        };
        let shown = |unified| -> Vec<String> {
            let shown = |(name, value)| match value {
                Value::Uint64(u64::MAX) => format!("{name}=infinity"),
                Value::Uint64(number) => format!("{name}={number}"),
                other => panic!("{other:?}"),
            };
            properties(&limits, unified).into_iter().map(shown).collect()
        };
        assert_eq!(
            shown(true),
            [
                "CPUWeight=39",
                "CPUQuotaPerSecUSec=510000",
                "MemoryMax=1048576",
                "MemoryMin=7",
                "MemoryLow=0",
                "TasksMax=infinity"
            ]
        );
        assert_eq!(
            shown(false),
            ["CPUShares=1024", "CPUQuotaPerSecUSec=510000", "MemoryLimit=1048576", "TasksMax=infinity"]
        );
        let unlimited = Limits { cpu_quota: Some(-1), ..Limits::default() };
        assert_eq!(
            properties(&unlimited, true),
            [("CPUQuotaPerSecUSec".to_owned(), Value::Uint64(u64::MAX))]
        );
    }

    /// What systemd does, with one slice that is there already.
    async fn play(daemon: &Daemon, mut calls: u32) -> Vec<String> {
        let mut bus = Bus::connect(&daemon.socket).await.unwrap();
        let name = vec![Value::Text(SERVICE.to_owned()), Value::Uint32(0)];
        assert_eq!(bus.of_bus("RequestName", name).await.unwrap().body, [Value::Uint32(1)]);
        let (mut seen, mut job) = (Vec::new(), 0);
        while calls > 0 {
            let call = bus.next().await.unwrap();
            if call.kind != Kind::Call {
                continue;
            }
            calls -= 1;
            seen.push(format!("{} {:?}", call.member, call.body));
            let is_there = call.body.first() == Some(&Value::Text("there.slice".to_owned()));
            let refusal = match call.member.as_str() {
                "StartTransientUnit" if is_there => "org.freedesktop.systemd1.UnitExists",
                "StopUnit" if !is_there => "org.freedesktop.systemd1.NoSuchUnit",
                _ => "",
            };
            let kind = if refusal.is_empty() { Kind::Return } else { Kind::Error };
            let is_job =
                kind == Kind::Return && matches!(call.member.as_str(), "StartTransientUnit" | "StopUnit");
            let path = |job| Value::Path(format!("{OBJECT}/job/{job}"));
            job += 1;
            // Others have jobs, too, and one may be over before it is heard of.
            for (number, result) in [(job + 100, "canceled"), (job, "done")].into_iter().filter(|_| is_job) {
                let body = vec![
                    Value::Uint32(number),
                    path(number),
                    Value::Text("u".to_owned()),
                    Value::Text(result.to_owned()),
                ];
                let (interface, member) = (MANAGER.to_owned(), "JobRemoved".to_owned());
                let told = Message {
                    path: OBJECT.to_owned(),
                    interface,
                    member,
                    body,
                    ..Message::new(Kind::Signal, 0)
                };
                bus.send(told).await.unwrap();
            }
            let body = if is_job { vec![path(job)] } else { Vec::new() };
            let (destination, error) = (call.sender, refusal.to_owned());
            let reply_to = Some(call.serial);
            bus.send(Message { reply_to, destination, error, body, ..Message::new(kind, 0) }).await.unwrap();
        }
        seen
    }

    #[tokio::test]
    async fn slices_are_started_changed_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(dir.path()).await;
        assert!(Units::find(&daemon.socket, true).await.is_err(), "nobody is there");
        let (limits, played) = (Limits { pids: Some(7), ..Limits::default() }, daemon.socket.clone());
        let asking = async {
            // It takes its name a moment later.
            let units = loop {
                match Units::find(&played, true).await {
                    Ok(units) => break units,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            units.start("new.slice", &limits).await.unwrap();
            units.start("there.slice", &limits).await.unwrap();
            units.set("there.slice", &limits).await.unwrap();
            units.set("there.slice", &Limits::default()).await.unwrap();
            units.stop("there.slice").await.unwrap();
            units.stop("new.slice").await.unwrap();
        };
        // Each begins with "Subscribe", and one of them takes two.
        let (mut seen, ()) = tokio::join!(play(&daemon, 12), asking);
        seen.retain(|call| !call.starts_with("Subscribe"));
        let members: Vec<_> = seen.iter().filter_map(|call| call.split(' ').next()).collect();
        let wanted = [
            "StartTransientUnit",
            "StartTransientUnit",
            "SetUnitProperties",
            "SetUnitProperties",
            "StopUnit",
            "StopUnit",
        ];
        assert_eq!(members, wanted);
        let limit = r#"("TasksMax", Uint64(7))"#;
        assert!(
            seen[0].contains(r#"Text("new.slice"), Text("replace"), Properties([("Description""#),
            "{}",
            seen[0]
        );
        assert!(seen[..4].iter().all(|call| call.contains(limit)), "{seen:?}");
    }
}
