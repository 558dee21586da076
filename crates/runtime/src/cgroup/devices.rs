//! Which devices the processes of a cgroup may use: by the devices controller of version 1, or by a program that
//! version 2 asks each time.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// One device, or several of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `c` or `b`.
    pub kind: char,
    /// Every one without it.
    pub major: Option<u32>,
    /// Every one without it.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be made.
    pub mknod: bool,
}

/// What may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Everything.
    pub all: bool,
    /// These, beside those that every container has.
    pub allowed: Vec<Rule>,
}

const fn rule(kind: char, major: Option<u32>, minor: Option<u32>) -> Rule {
    Rule { kind, major, minor, read: true, write: true, mknod: true }
}

const fn made_only(kind: char) -> Rule {
    Rule { read: false, write: false, ..rule(kind, None, None) }
}

/// What every container has, as with other runtimes: any node may be made, and these used: null, zero, full, random,
/// urandom, tty, console, ptmx, terminals and tunnels.
const USUAL: [Rule; 12] = [
    made_only('c'),
    made_only('b'),
    rule('c', Some(1), Some(3)),
    rule('c', Some(1), Some(5)),
    rule('c', Some(1), Some(7)),
    rule('c', Some(1), Some(8)),
    rule('c', Some(1), Some(9)),
    rule('c', Some(5), Some(0)),
    rule('c', Some(5), Some(1)),
    rule('c', Some(5), Some(2)),
    rule('c', Some(136), None),
    rule('c', Some(10), Some(200)),
];

impl Rule {
    /// One device, with the letters of `r`, `w` and `m` that it may be used with.
    pub fn device(kind: char, major: u32, minor: u32, access: &str) -> Self {
        let has = |letter| access.contains(letter);
        // A named pipe is no device, and unbuffered ones are characters.
        let kind = if kind == 'u' { 'c' } else { kind };
        Self {
            kind,
            major: Some(major),
            minor: Some(minor),
            read: has('r'),
            write: has('w'),
            mknod: has('m'),
        }
    }

    /// As the devices controller reads it.
    fn line(&self) -> String {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')];
        let access: String = letters.into_iter().filter_map(|(has, letter)| has.then_some(letter)).collect();
        format!("{} {}:{} {access}", self.kind, number(self.major), number(self.minor))
    }
}

impl Devices {
    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.allowed.iter().chain(&USUAL)
    }

    /// What to write to which file of the devices controller, in order.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        if self.all {
            return vec![("devices.allow", "a".to_owned())];
        }
        let allowed = self.rules().map(|rule| ("devices.allow", rule.line()));
        [("devices.deny", "a".to_owned())].into_iter().chain(allowed).collect()
    }

    /// Has version 2 ask a program of these rules, for as long as the cgroup is there.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn attach(&self, folder: &Path) -> io::Result<()> {
        if self.all {
            return Ok(());
        }
        let cgroup = File::open(folder)?;
        let program = load(&self.program())?;
        // struct bpf_attr for BPF_PROG_ATTACH: target_fd, attach_bpf_fd, attach_type, attach_flags.
        let mut attributes = [cgroup.as_raw_fd() as u32, program.as_raw_fd() as u32, DEVICE, ALLOW_MULTI];
        bpf(ATTACH, attributes.as_mut_ptr().cast(), size_of_val(&attributes)).map(drop)
    }

    /// The rules as a program: 1 for what a rule allows, 0 for the rest.
    fn program(&self) -> Vec<Instruction> {
        // The context is struct bpf_cgroup_dev_ctx: u32 access_type (access << 16 | type), u32 major, u32 minor.
        let mut program = vec![
            op(0x61, 2, 1, 0, 0),      // w2 = access_type
            op(0xbc, 3, 2, 0, 0),      // w3 = w2
            op(0x54, 2, 0, 0, 0xffff), // w2 &= 0xffff: the type
            op(0x74, 3, 0, 0, 16),     // w3 >>= 16: the access
            op(0x61, 4, 1, 4, 0),      // w4 = major
            op(0x61, 5, 1, 8, 0),      // w5 = minor
        ];
        for rule in self.rules() {
            let kind = if rule.kind == 'b' { 1 } else { 2 };
            let letters = [(rule.mknod, 1), (rule.read, 2), (rule.write, 4)];
            let access: i32 = letters.into_iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum();
            let mut tests = vec![(0x55, 2, 0, kind)];
            tests.extend(rule.major.map(|major| (0x55, 4, 0, major as i32)));
            tests.extend(rule.minor.map(|minor| (0x55, 5, 0, minor as i32)));
            let mut block = vec![op(0xbc, 1, 3, 0, 0), op(0x54, 1, 0, 0, access)]; // w1 = w3 & access
            // A test that fails skips all that follows of this rule: the other tests, and "r0 = 1; exit".
            tests.push((0x5d, 1, 3, 0)); // what was asked for is more than is allowed
            let count = tests.len() as i16;
            for (number, (code, left, right, value)) in (1..).zip(tests) {
                block.push(op(code, left, right, count - number + 2, value));
            }
            block.extend([op(0xb7, 0, 0, 0, 1), op(0x95, 0, 0, 0, 0)]);
            program.extend(block);
        }
        program.extend([op(0xb7, 0, 0, 0, 0), op(0x95, 0, 0, 0, 0)]);
        program
    }
}

/// An instruction as the kernel has it: code, registers, offset, value.
type Instruction = u64;

fn op(code: u8, target: u8, source: u8, offset: i16, value: i32) -> Instruction {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = value.to_ne_bytes();
    let registers = if cfg!(target_endian = "big") { target << 4 | source } else { source << 4 | target };
    u64::from_ne_bytes([code, registers, low, high, a, b, c, d])
}

/// Commands, types and flags of bpf(2).
const LOAD: i32 = 5;
const ATTACH: i32 = 8;
const CGROUP_DEVICE: u32 = 15;
const DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = Load {
        kind: CGROUP_DEVICE,
        instructions: program.len() as u32,
        program: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        name: *b"knarr_devices\0\0\0",
        ..Load::default()
    };
    let fd = bpf(LOAD, (&raw mut attributes).cast(), size_of::<Load>())?;
    // SAFETY: a new descriptor.
    #[expect(unsafe_code, reason = "the system call's answer becomes a descriptor")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn bpf(command: i32, attributes: *mut libc::c_void, size: usize) -> io::Result<i64> {
    // SAFETY: the attributes are as long as is said, and what they point to outlives the call.
    #[expect(unsafe_code, reason = "the library has no function for it")]
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_told_line_by_line() {
        let devices = Devices { all: false, allowed: vec![Rule::device('c', 10, 229, "rw")] };
        let lines = devices.lines();
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert_eq!(lines[1], ("devices.allow", "c 10:229 rw".to_owned()));
        assert!(lines.contains(&("devices.allow", "c *:* m".to_owned())));
        assert!(lines.contains(&("devices.allow", "c 136:* rwm".to_owned())));
        let all = Devices { all: true, allowed: Vec::new() };
        assert_eq!(all.lines(), [("devices.allow", "a".to_owned())]);
    }

    /// What a program answers, by walking it as the kernel would.
    fn answer(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0u64; 11], 0usize);
        loop {
            let [code, pair, low, high, a, b, c, d] = program[at].to_ne_bytes();
            let (target, source) = ((pair & 15) as usize, (pair >> 4) as usize);
            let offset = i16::from_ne_bytes([low, high]);
            let value = i32::from_ne_bytes([a, b, c, d]);
            let mut jump = false;
            match code {
                0x61 => registers[target] = context[offset as usize / 4].into(),
                0xbc => registers[target] = registers[source] & 0xffff_ffff,
                0x54 => registers[target] &= value as u64,
                0x74 => registers[target] >>= value,
                0xb7 => registers[target] = value as u64,
                0x55 => jump = registers[target] != value as u64,
                0x5d => jump = registers[target] != registers[source],
                0x95 => return registers[0],
                other => panic!("{other:#x}"),
            }
            at = (at as i64 + 1 + if jump { i64::from(offset) } else { 0 }) as usize;
        }
    }

    #[test]
    fn version_2_asks_a_program() {
        let devices = Devices { all: false, allowed: vec![Rule::device('b', 8, 1, "r")] };
        let program = devices.program();
        let (block, character, mknod, read, write) = (1, 2, 1, 2, 4);
        for (kind, access, major, minor, expected) in [
            (character, read | write, 1, 3, 1),
            (character, read, 136, 7, 1),
            (character, read, 1, 1, 0),
            (character, mknod, 1, 1, 1),
            (character, mknod | read, 1, 1, 0),
            (block, mknod, 8, 0, 1),
            (block, read, 8, 0, 0),
            (block, read, 8, 1, 1),
            (block, read | write, 8, 1, 0),
            (character, read, 8, 1, 0),
        ] {
            let got = answer(&program, kind, access, major, minor);
            assert_eq!(got, expected, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn the_kernel_takes_the_program_and_keeps_to_it() {
        use std::io::Read;
        let Some(root) = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(Path::new)
            .into_iter()
            .find(|root| root.join("cgroup.controllers").exists())
        else {
            eprintln!("skipped: no cgroups of version 2");
            return;
        };
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let folder = root.join(format!("knarr-devices-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let tried = (|| {
            Devices::default().attach(&folder)?;
            // A shell moves itself in, and tries what may and what may not be.
            let script = "echo 0 > $1/cgroup.procs; head -c1 /dev/zero | tr '\\0' z; head -c1 /dev/kmsg";
            let mut child = std::process::Command::new("sh")
                .args(["-c", script, "sh"])
                .arg(&folder)
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()?;
            let (mut out, mut err) = (String::new(), String::new());
            child.stdout.take().unwrap().read_to_string(&mut out)?;
            child.stderr.take().unwrap().read_to_string(&mut err)?;
            child.wait()?;
            io::Result::Ok((out, err))
        })();
        for _ in 0..100 {
            if std::fs::remove_dir(&folder).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let (out, err) = tried.unwrap();
        assert_eq!(out, "z", "{err}");
        assert!(err.contains("Operation not permitted"), "{err}");
    }
}
