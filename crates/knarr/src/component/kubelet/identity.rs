//! Who a kubelet is, and what it serves with: certificates that it has itself issued, keeps, and renews while it uses
//! them (`kubelet::certificates` does the work; here it is said which, and where they go).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use auth::kubeconfig;
use auth::pki::{Authorities, CertKey, Holder, Serving, holder, join};
use base::{SharedClock, SharedRandom, TaskGroup};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::reach::watched;
use client::replace::{Replacer, replaceable};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kubelet::certificates::{Files, Given, Measure, Renewal, Wanted, authority, follow_authority};

/// A certificate that the kubelet signs itself is good that long.
const SELF_SIGNED: Duration = Duration::from_secs(365 * 24 * 3600);

/// What both certificates have in common.
pub struct Keeper<'a> {
    /// The node.
    pub node: &'a str,
    /// Where certificates are kept.
    pub dir: &'a Path,
    /// The time.
    pub clock: &'a SharedClock,
    /// Randomness.
    pub random: &'a SharedRandom,
    /// Who runs the renewals.
    pub tasks: &'a TaskGroup,
}

/// A client, and how its certificate's renewals go.
pub type Known = (kube::Client, Option<Arc<Measure>>);

impl Keeper<'_> {
    /// The client of a kubeconfig. With `renews`, the certificate it shows is one of our own files, asked for by
    /// whatever the kubeconfig has (or by the bootstrap one, while it has nothing valid), and renewed.
    ///
    /// # Errors
    /// When a file makes no sense.
    pub async fn client(&self, path: &Path, bootstrap: Option<&Path>, renews: bool) -> Result<Known> {
        let known = self.is_valid(path)?;
        let bootstrap = match bootstrap {
            Some(bootstrap) if !known => {
                self.write(path, bootstrap)?;
                Some(super::super::connect(bootstrap).await?)
            }
            // It may be gone once it has done its work. If it is there, it helps a node that was off for too long.
            Some(bootstrap) if renews && bootstrap.exists() => Some(super::super::connect(bootstrap).await?),
            _ => None,
        };
        if !renews && (known || bootstrap.is_none()) {
            return Ok((super::super::connect(path).await?, None));
        }
        let files = Files::new(self.dir, "kubelet-client");
        let config = config(path).await?;
        let given = kubeconfig::certificate(&super::read(path)?, path.parent().unwrap_or(Path::new("/")))?;
        self.renewed(Way { config, given, bootstrap, files, goes_on: renews, keeps_given: false })
    }

    /// Writes a kubeconfig for the cluster of the bootstrap one, whose certificate is the one that will be had.
    fn write(&self, path: &Path, bootstrap: &Path) -> Result<()> {
        let pem = std::path::absolute(Files::new(self.dir, "kubelet-client").current())?;
        let whole = std::path::absolute(bootstrap)?;
        let text = super::read(bootstrap)?;
        let own = kubeconfig::with_certificate_file(&text, whole.parent().unwrap_or(&whole), &pem)
            .with_context(|| format!("using {}", bootstrap.display()))?;
        auth::pki::write_private(path, &own).with_context(|| format!("writing {}", path.display()))?;
        tracing::info!(kubeconfig = %path.display(), "written; a first certificate is asked for");
        Ok(())
    }

    /// The client of a kubeconfig's text, whose certificate is renewed into our own files.
    ///
    /// # Errors
    /// When it makes no sense.
    pub async fn embedded(&self, text: &str) -> Result<Known> {
        let files = Files::new(self.dir, "kubelet-client");
        let parsed = Kubeconfig::from_yaml(text)?;
        let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await?;
        let given = kubeconfig::certificate(text, Path::new("/"))?;
        self.renewed(Way { config, given, bootstrap: None, files, goes_on: true, keeps_given: true })
    }

    fn renewed(&self, way: Way) -> Result<Known> {
        let Way { config, given, bootstrap, files, goes_on, keeps_given } = way;
        let now = self.clock.now();
        let valid = |cert: CertKey| match holder(&cert.cert_pem) {
            Ok(held) if now < held.not_after => Some((cert, held)),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "a client certificate is not used");
                None
            }
        };
        let kept = files.load()?.and_then(valid);
        let given = given.and_then(valid);
        let at_once = kept.is_none() && !keeps_given;
        let shown = if keeps_given { longer(kept, given) } else { kept.or(given) };
        let begin = shown.as_ref().map(|(cert, _)| showing(&config, cert)).transpose()?;
        // Whoever is known by something else, such as a token, asks with that.
        let first = match (bootstrap, &begin) {
            (Some(bootstrap), _) => bootstrap,
            (None, Some(client)) => client.clone(),
            (None, None) => watched(client::connect::of(config.clone()).context(
                "the kubeconfig shows nothing that is valid: give the kubelet a --bootstrap-kubeconfig",
            )?),
        };
        let (client, replacer) = replaceable(begin);
        let measure = Arc::new(Measure::default());
        let renewal = Renewal {
            wanted: Wanted::client(self.node),
            files,
            own: client.clone(),
            first,
            uses: Box::new(move |cert| show(&replacer, &config, cert)),
            goes_on,
            at_once,
            clock: self.clock.clone(),
            random: self.random.clone(),
            measure: measure.clone(),
        };
        self.tasks.spawn(renewal.run(shown.map(|(_, held)| held)));
        Ok((client, Some(measure)))
    }

    /// Whether a kubeconfig shows a certificate that is still valid. One that cannot be used is not.
    fn is_valid(&self, path: &Path) -> Result<bool> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let shown = kubeconfig::certificate(&text, path.parent().unwrap_or(Path::new("/")));
        let held = shown.map_err(anyhow::Error::from).and_then(|cert| {
            cert.map(|cert| holder(&cert.cert_pem)).transpose().map_err(anyhow::Error::from)
        });
        match held {
            Ok(held) => Ok(held.is_some_and(|held| self.clock.now() < held.not_after)),
            Err(error) => {
                tracing::warn!(kubeconfig = %path.display(), %error, "it is written anew");
                Ok(false)
            }
        }
    }

    /// A serving certificate that the cluster signs. Until it has, what `given` holds is served, if anything.
    ///
    /// # Errors
    /// When a file makes no sense.
    pub fn issued(
        &self,
        sans: Vec<String>,
        given: Option<&CertKey>,
        client: &kube::Client,
    ) -> Result<(Arc<Serving>, Arc<Measure>)> {
        let files = Files::new(self.dir, "kubelet-server");
        let serving = Arc::new(Serving::default());
        let mut held: Option<Holder> = None;
        for cert in files.load()?.iter().chain(given) {
            let found = holder(&cert.cert_pem)?;
            if self.clock.now() < found.not_after {
                serving.replace(cert)?;
                held = Some(found);
                break;
            }
        }
        let (measure, target) = (Arc::new(Measure::default()), serving.clone());
        let renewal = Renewal {
            wanted: Wanted::serving(self.node, sans),
            files,
            own: client.clone(),
            first: client.clone(),
            uses: Box::new(move |cert| target.replace(cert).map_err(|error| error.to_string())),
            goes_on: true,
            at_once: false,
            clock: self.clock.clone(),
            random: self.random.clone(),
            measure: measure.clone(),
        };
        self.tasks.spawn(renewal.run(held));
        Ok((serving, measure))
    }

    /// What two files hold now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(cert: &str, key: &str) -> Result<CertKey> {
        Ok(Given { cert: PathBuf::from(cert), key: PathBuf::from(key) }.read()?)
    }

    /// What two files hold, also after they are replaced.
    ///
    /// # Errors
    /// When they cannot be used now.
    pub fn given(&self, cert: &str, key: &str) -> Result<Arc<Serving>> {
        let given = Given { cert: PathBuf::from(cert), key: PathBuf::from(key) };
        let served = given.read()?;
        let serving = Arc::new(Serving::with(&served).with_context(|| format!("using {cert} and {key}"))?);
        let target = serving.clone();
        let uses = Box::new(move |cert: &CertKey| target.replace(cert).map_err(|error| error.to_string()));
        self.tasks.spawn(given.follow(served, uses));
        Ok(serving)
    }

    /// Whose client certificates are trusted (`clientCAFile`), also after the file is replaced; nobody's without it, as
    /// upstream.
    ///
    /// # Errors
    /// When the file cannot be used now.
    pub fn authorities(&self, file: &str) -> Result<Option<Arc<Authorities>>> {
        if file.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(file);
        let trusted = authority(&path)?;
        let authorities = Authorities::of(&trusted).with_context(|| format!("using {file}"))?;
        let authorities = Arc::new(authorities);
        self.tasks.spawn(follow_authority(path, trusted, authorities.clone()));
        Ok(Some(authorities))
    }

    /// A certificate that the kubelet signs itself, as upstream's does: kept, so that who trusts it once may go on.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub fn self_signed(&self, names: &[String]) -> Result<Arc<Serving>> {
        let (cert_path, key_path) = (self.dir.join("kubelet.crt"), self.dir.join("kubelet.key"));
        let given = Given { cert: cert_path.clone(), key: key_path.clone() };
        if let Ok(kept) = given.read()
            && let Ok(held) = holder(&kept.cert_pem)
            && self.clock.now() < held.not_after
            && names.iter().all(|name| held.sans.contains(name))
            && let Ok(serving) = Serving::with(&kept)
        {
            return Ok(Arc::new(serving));
        }
        let made = join::self_signed(self.node, names, self.clock.now(), SELF_SIGNED)?;
        std::fs::create_dir_all(self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        // The key first: a certificate without its key is made again.
        for (path, text) in [(&key_path, &made.key_pem), (&cert_path, &made.cert_pem)] {
            auth::pki::write_private(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Arc::new(Serving::with(&made)?))
    }
}

/// The one that is good for longer.
fn longer(one: Option<(CertKey, Holder)>, other: Option<(CertKey, Holder)>) -> Option<(CertKey, Holder)> {
    one.into_iter().chain(other).max_by_key(|(_, held)| held.not_after)
}

/// Where the cluster is, who is known already, and where the certificate goes.
struct Way {
    config: kube::Config,
    given: Option<CertKey>,
    bootstrap: Option<kube::Client>,
    files: Files,
    goes_on: bool,
    /// Whether the certificate that was given is used until its time comes. Otherwise, as upstream, it serves to ask
    /// for one of the node's own at once.
    keeps_given: bool,
}

async fn config(path: &Path) -> Result<kube::Config> {
    let using = || format!("using {}", path.display());
    let parsed = Kubeconfig::read_from(path).with_context(using)?;
    kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.with_context(using)
}

/// A client of the same cluster that shows this certificate, and nothing else.
fn showing(config: &kube::Config, cert: &CertKey) -> Result<kube::Client> {
    let mut config = config.clone();
    let encoded = serde_json::json!({
        "client-certificate-data": STANDARD.encode(&cert.cert_pem),
        "client-key-data": STANDARD.encode(&cert.key_pem),
    });
    config.auth_info = serde_json::from_value::<AuthInfo>(encoded)?;
    Ok(watched(client::connect::of(config)?))
}

fn show(replacer: &Replacer, config: &kube::Config, cert: &CertKey) -> Result<(), String> {
    let client = showing(config, cert).map_err(|error| error.to_string())?;
    replacer.replace(client);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base::{ManualClock, Shutdown, SystemRandom};
    use jiff::Timestamp;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    struct Machine {
        dir: tempfile::TempDir,
        clock: Arc<ManualClock>,
        shared: SharedClock,
        random: SharedRandom,
        tasks: TaskGroup,
    }

    impl Machine {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
            let tasks = TaskGroup::new(&Shutdown::new());
            let (dir, random) = (tempfile::tempdir().unwrap(), SystemRandom::shared());
            Self { dir, shared: clock.clone(), clock, random, tasks }
        }

        fn keeper(&self) -> Keeper<'_> {
            let (clock, random, tasks) = (&self.shared, &self.random, &self.tasks);
            Keeper { node: "n1", dir: self.dir.path(), clock, random, tasks }
        }

        fn cert(&self, life: Duration) -> CertKey {
            join::self_signed("n1", &[], self.shared.now(), life).unwrap()
        }
    }

    #[test]
    fn a_kubeconfig_counts_while_its_certificate_does() {
        let machine = Machine::new();
        let (keeper, path) = (machine.keeper(), machine.dir.path().join("kubelet.conf"));
        assert!(!keeper.is_valid(&path).unwrap(), "there is none");
        let (pem, cert) = (machine.dir.path().join("own.pem"), machine.cert(DAY));
        let bootstrap = kubeconfig::render(&kubeconfig::Entry {
            name: "k",
            server: "https://127.0.0.1:1",
            ca_pem: &cert.cert_pem,
            credential: kubeconfig::Credential::Token("t"),
        });
        let text = kubeconfig::with_certificate_file(&bootstrap.unwrap(), Path::new("/"), &pem).unwrap();
        fs::write(&path, text).unwrap();
        assert!(!keeper.is_valid(&path).unwrap(), "its certificate is not there yet");
        fs::write(&pem, format!("{}{}", cert.cert_pem, cert.key_pem)).unwrap();
        assert!(keeper.is_valid(&path).unwrap());
        machine.clock.advance(2 * DAY);
        assert!(!keeper.is_valid(&path).unwrap(), "it has ended");
        fs::write(&path, "- nonsense").unwrap();
        assert!(!keeper.is_valid(&path).unwrap(), "it is written anew");
    }

    #[test]
    fn of_two_certificates_the_one_that_is_good_for_longer_is_used() {
        let machine = Machine::new();
        let pair = |days: u32| {
            let cert = machine.cert(days * DAY);
            let held = holder(&cert.cert_pem).unwrap();
            Some((cert, held))
        };
        let (short, long) = (pair(1), pair(2));
        assert_eq!(longer(short.clone(), long.clone()), long);
        assert_eq!(longer(long.clone(), short), long);
        assert_eq!(longer(None, long.clone()), long);
        assert_eq!(longer(None, None), None);
    }

    #[test]
    fn what_a_kubelet_signs_itself_is_kept_while_it_is_right() {
        let machine = Machine::new();
        let file = machine.dir.path().join("kubelet.crt");
        let signed = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            machine.keeper().self_signed(&names).unwrap();
            fs::read_to_string(&file).unwrap()
        };
        let first = signed(&["n1", "10.0.0.1"]);
        assert_eq!(signed(&["n1"]), first);
        let second = signed(&["n1", "10.0.0.2"]);
        assert_ne!(second, first, "another address");
        machine.clock.advance(400 * DAY);
        assert_ne!(signed(&["n1", "10.0.0.2"]), second, "it has ended");
    }
}
