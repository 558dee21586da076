//! The real kubectl, run as a user runs it, in the cluster's own directory.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, patiently};

/// Splits a command line as a shell does, knowing nothing but spaces and single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.trim().chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

/// Columns are as wide as their contents: one space is as good as many.
fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if !(letter == ' ' && out.ends_with(' ')) {
            out.push(letter);
        }
    }
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A kubectl that goes on running; ended when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Waits for a line of its output that contains `wanted`.
    pub fn until(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            assert!(line.is_ok(), "no {wanted:?} in {:#?}", self.seen);
            let line = line.unwrap();
            self.seen.push(line.clone());
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// What it reads.
    pub fn input(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits for its end; the exit code.
    pub fn end(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cluster {
    /// A file that kubectl finds by its name.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A program that kubectl finds by its path.
    pub fn write_script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        self.write(name, text);
        let path = self.dir().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// A kubectl that is ready to be run.
    pub fn command(&self) -> Command {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bin/kubectl");
        let mut command = Command::new(own.canonicalize().unwrap_or_else(|_| PathBuf::from("kubectl")));
        command.current_dir(self.dir()).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command().args(words(line)).stdin(Stdio::null()).output().unwrap()
    }

    /// What kubectl prints; it must succeed.
    pub fn k(&self, line: &str) -> String {
        let output = self.run(line);
        let said = text(&output.stderr);
        assert!(output.status.success(), "kubectl {line}: {said}\n{}", self.logs());
        text(&output.stdout)
    }

    /// kubectl succeeds, and its output or its warnings contain all of this; columns may be wider.
    #[track_caller]
    pub fn says(&self, line: &str, wanted: &[&str]) {
        let output = self.run(line);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "kubectl {line}: {said}");
        for wanted in wanted {
            let found = squeezed(&said).contains(&squeezed(wanted));
            assert!(found, "kubectl {line}: no {wanted:?} in\n{said}");
        }
    }

    /// Waits until kubectl says all of this at once; columns may be wider.
    #[track_caller]
    pub fn comes_to_say(&self, line: &str, wanted: &[&str]) {
        let said = |output: &Output| squeezed(&format!("{}{}", text(&output.stdout), text(&output.stderr)));
        let all = |said: &str| wanted.iter().all(|wanted| said.contains(&squeezed(wanted)));
        self.waits(line, &format!("{wanted:?} in"), said, all);
    }

    /// kubectl fails with this exit code and says all of this.
    #[track_caller]
    pub fn exits(&self, line: &str, code: i32, wanted: &[&str]) {
        let output = self.run(line);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "kubectl {line}: {said}");
        for wanted in wanted {
            let found = squeezed(&said).contains(&squeezed(wanted));
            assert!(found, "kubectl {line}: no {wanted:?} in\n{said}");
        }
    }

    /// kubectl fails and says this.
    #[track_caller]
    pub fn refuses(&self, line: &str, wanted: &str) {
        self.exits(line, 1, &[wanted]);
    }

    /// What kubectl prints when it reads `input`.
    #[track_caller]
    pub fn fed(&self, line: &str, input: &str) -> String {
        let mut child = self.piped(line);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "kubectl {line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn piped(&self, line: &str) -> Child {
        let mut command = self.command();
        command.args(words(line)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// A kubectl that goes on running, with what it prints on both streams.
    pub fn start(&self, line: &str) -> Running {
        let mut child = self.piped(line);
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Running { child, lines, seen: Vec::new() }
    }

    /// Waits until kubectl prints something that contains `wanted`.
    #[track_caller]
    pub fn shows(&self, line: &str, wanted: &str) -> String {
        let said = |output: &Output| format!("{}{}", text(&output.stdout), text(&output.stderr));
        self.waits(line, &format!("{wanted:?} in"), said, |said| said.contains(wanted))
    }

    /// Waits until kubectl prints exactly this, white space at the ends aside.
    #[track_caller]
    pub fn becomes(&self, line: &str, wanted: &str) {
        let said = |output: &Output| text(&output.stdout);
        self.waits(line, &format!("{wanted:?} from"), said, |said| said.trim() == wanted);
    }

    /// Waits until what kubectl says is as it should be.
    #[track_caller]
    fn waits(
        &self,
        line: &str,
        what: &str,
        said: impl Fn(&Output) -> String,
        right: impl Fn(&str) -> bool,
    ) -> String {
        let mut last = String::new();
        let came = patiently(|| {
            last = said(&self.run(line));
            right(&last)
        });
        assert!(came, "waited in vain for {what} kubectl {line}, which says {last:?}\n{}", self.logs());
        last
    }
}
