//! The loop: one poll over the runtime's connection, the launchers' reports, the children and their
//! output.

use crate::pidns;
use crate::proto::{self, HEADER, Header, MAX_FDS, MAX_PACKET, event, op, report};
use crate::slot::{Fd, Shared, Slot};
use crate::start::{self, Fds};
use crate::sys::{self, POLLIN, POLLOUT, PollFd};

const SLOTS: usize = 128;
const POLLS: usize = 3 + SLOTS * 3;
const STRAYS: usize = 16;

/// All that the shim knows. All zeroes is the beginning. What is used first lies together, so that a
/// shim with little to do touches few pages.
#[repr(C)]
pub struct Shim {
    /// Slots at and above this were never used.
    used: usize,
    connection: Fd,
    pidns_init: i32,
    /// Children that ended before anybody said whose they are: pid and wait status.
    strays: [(i32, i32); STRAYS],
    next_stray: usize,
    slots: [Slot; SLOTS],
    polls: [PollFd; POLLS],
    /// What each entry of `polls` belongs to: slot and stream (or the report, as 2).
    owners: [(u16, u16); POLLS],
    packet: [u8; MAX_PACKET],
    shared: Shared,
}

const REPORT: u16 = 2;

impl Shim {
    /// The beginning.
    // SAFETY: every field is made of integers, for which zeroes are a value.
    pub const ZERO: Self = unsafe { core::mem::zeroed() };

    pub fn run(&mut self, signals: i32) -> ! {
        loop {
            let count = self.prepare(signals);
            let Some(polls) = self.polls.get_mut(..count) else { sys::exit(102) };
            if sys::poll(polls).is_err() {
                continue;
            }
            // Reports come before deaths: a process must be known before it can be mourned.
            for i in 3..count {
                let (Some(poll), Some(owner)) = (self.polls.get(i), self.owners.get(i)) else { continue };
                if poll.revents == 0 {
                    continue;
                }
                let (index, kind) = (usize::from(owner.0), owner.1);
                match kind {
                    REPORT => {
                        self.report(index);
                    }
                    stream => self.output(index, usize::from(stream)),
                }
            }
            if self.polls.first().is_some_and(|poll| poll.revents != 0) {
                let mut info = [0u8; 128 * 4];
                while sys::read(signals, &mut info).is_ok_and(|n| n == info.len()) {}
            }
            self.children();
            if self.polls.get(2).is_some_and(|poll| poll.revents != 0) {
                self.requests();
            }
            if self.polls.get(1).is_some_and(|poll| poll.revents != 0) {
                self.accept();
            }
        }
    }

    /// Fills the poll set: signals, listener, connection, then reports and streams.
    fn prepare(&mut self, signals: i32) -> usize {
        let mut count = 0;
        let mut add = |fd: i32, events: i16, owner: (u16, u16)| {
            if let (Some(poll), Some(to)) = (self.polls.get_mut(count), self.owners.get_mut(count)) {
                *poll = PollFd { fd, events, revents: 0 };
                *to = owner;
                count += 1;
            }
        };
        add(signals, POLLIN, (0, 0));
        add(proto::FD_LISTEN, POLLIN, (0, 0));
        add(self.connection.get().unwrap_or(-1), POLLIN, (0, 0));
        for (index, slot) in self.slots.iter().take(self.used).enumerate() {
            if let Some(fd) = slot.report.get() {
                add(fd, POLLIN, (index as u16, REPORT));
            }
            for (which, stream) in slot.streams.iter().enumerate() {
                // An attached client that does not read holds its container back, as a terminal would.
                match (stream.source.get(), stream.sink.get()) {
                    (Some(_), Some(sink)) if !writable(sink) => {
                        add(sink, POLLOUT, (index as u16, which as u16))
                    }
                    (Some(source), _) => add(source, POLLIN, (index as u16, which as u16)),
                    (None, _) => {}
                }
            }
        }
        count
    }

    fn output(&mut self, index: usize, which: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let blocked = slot.streams.get(which).and_then(|s| s.sink.get()).is_some_and(|sink| !writable(sink));
        if !blocked {
            slot.pump(which, &mut self.shared);
        }
    }

    fn accept(&mut self) {
        if let Ok(fd) = sys::accept(proto::FD_LISTEN) {
            // The newest runtime is the one that counts.
            self.connection.set(Some(fd));
            let hello = Header {
                kind: event::HELLO,
                a: proto::VERSION,
                b: i64::from(sys::getpid()),
                ..Header::default()
            };
            self.send(hello, &[], &[]);
        }
    }

    fn send(&mut self, header: Header, text: &[u8], fds: &[i32]) {
        send(&mut self.connection, header, text, fds);
    }

    fn answer(&mut self, request: Header, a: i64) {
        self.send(Header { kind: event::DONE, a, flags: 0, ..request }, &[], &[]);
    }

    fn refuse(&mut self, request: Header, text: &[u8]) {
        self.send(Header { kind: event::ERROR, flags: 0, ..request }, text, &[]);
    }

    fn requests(&mut self) {
        while let Some(fd) = self.connection.get() {
            let mut fds = [-1; MAX_FDS];
            match sys::receive(fd, &mut self.packet, &mut fds) {
                Ok((0, _)) => self.connection.close(),
                Ok((len, count)) => {
                    let header = self.packet.get(..len).and_then(Header::decode);
                    if let Some(header) = header {
                        let fds = Fds::new(fds, count, header.flags);
                        self.request(header, len, fds);
                    }
                }
                Err(sys::EINTR) => {}
                Err(sys::EAGAIN) => return,
                Err(_) => self.connection.close(),
            }
        }
    }

    /// Carries out the request that lies in `packet`.
    fn request(&mut self, header: Header, len: usize, fds: Fds) {
        match header.kind {
            op::START => self.start(header, len, fds),
            op::LIST => self.list(header),
            op::REOPEN => self.with_slot(header, fds, |slot, fds, _| slot.log.set(fds.take(proto::HAS_LOG))),
            op::ATTACH => self.with_slot(header, fds, |slot, fds, _| {
                let [out, err] = &mut slot.streams;
                for (stream, bit) in [(out, proto::HAS_STDOUT), (err, proto::HAS_STDERR)] {
                    // An ended stream has nothing to copy; its sink closes as it is dropped.
                    let sink = if stream.source.is_open() { fds.take(bit) } else { None };
                    if let Some(fd) = sink {
                        sys::set_nonblocking(fd);
                    }
                    stream.sink.set(sink);
                }
            }),
            op::CLOSE_STDIN => self.with_slot(header, fds, |slot, _, _| slot.stdin.close()),
            op::FORGET => self.with_slot(header, fds, |slot, _, shared| {
                slot.drain(shared);
                slot.clear();
            }),
            op::ADOPT => self.adopt(header, fds),
            op::PIDNS => self.pidns(header, fds),
            op::SHUTDOWN => {
                self.answer(header, 0);
                if self.pidns_init > 0 {
                    sys::kill(self.pidns_init, sys::SIGKILL);
                }
                sys::exit(0)
            }
            _ => self.refuse(header, b"unknown request"),
        }
    }

    fn with_slot(
        &mut self,
        header: Header,
        mut fds: Fds,
        act: impl FnOnce(&mut Slot, &mut Fds, &mut Shared),
    ) {
        let shared = &mut self.shared;
        match self.slots.iter_mut().take(self.used).find(|slot| slot.handle == header.handle) {
            Some(slot) => {
                act(slot, &mut fds, shared);
                drop(fds);
                self.answer(header, 0);
            }
            None => self.refuse(header, b"no such process"),
        }
    }

    fn start(&mut self, header: Header, len: usize, fds: Fds) {
        if header.handle == 0 || self.slots.iter().take(self.used).any(|slot| slot.handle == header.handle) {
            return self.refuse(header, b"the handle is in use");
        }
        let Some(index) = self.slots.iter().position(|slot| slot.handle == 0) else {
            return self.refuse(header, b"the pod has too many processes");
        };
        // Who ended before is nobody of whom a launcher tells from now on: numbers of processes come again.
        if !self.slots.iter().take(self.used).any(|slot| slot.state == proto::STATE_LAUNCHING) {
            self.strays = [(0, 0); STRAYS];
        }
        let started = match self.slots.get_mut(index) {
            Some(slot) => start::start(slot, header, self.packet.get(HEADER..len).unwrap_or(&[]), fds),
            None => Err(0),
        };
        match started {
            Ok(()) => self.used = self.used.max(index + 1),
            Err(_) => self.refuse(header, b"the launcher could not be forked"),
        }
    }

    fn adopt(&mut self, header: Header, mut fds: Fds) {
        let free = self.slots.iter().position(|slot| slot.handle == 0);
        let Some((index, slot)) = free.and_then(|index| self.slots.get_mut(index).map(|slot| (index, slot)))
        else {
            return self.refuse(header, b"the pod has too many processes");
        };
        slot.handle = header.handle;
        slot.state = proto::STATE_RUNNING;
        slot.flags = header.flags & proto::FLAG_TTY | proto::FLAG_ADOPTED;
        slot.pid = header.a as i32;
        slot.start_time = header.b;
        start::take_streams(slot, &mut fds);
        self.used = self.used.max(index + 1);
        self.answer(header, 0);
    }

    fn list(&mut self, header: Header) {
        for index in 0..self.used {
            let Some(slot) = self.slots.get(index) else { break };
            if slot.handle == 0 {
                continue;
            }
            let tty = slot.flags & proto::FLAG_TTY != 0;
            let [out, err] = &slot.streams;
            let held = if tty {
                [(proto::HAS_TTY, out.source.get()), (0, None), (0, None)]
            } else {
                [
                    (proto::HAS_STDOUT, out.source.get()),
                    (proto::HAS_STDERR, err.source.get()),
                    (proto::HAS_STDIN_KEPT, slot.stdin.get()),
                ]
            };
            let mut flags = slot.flags | (slot.state << proto::STATE_SHIFT);
            let mut fds = [0; 3];
            let mut count = 0;
            for (bit, fd) in held {
                if let (Some(fd), Some(to)) = (fd, fds.get_mut(count)) {
                    *to = fd;
                    flags |= bit;
                    count += 1;
                }
            }
            let b = if slot.state == proto::STATE_EXITED { i64::from(slot.status) } else { slot.start_time };
            let (handle, a) = (slot.handle, i64::from(slot.pid));
            let slot = Header { kind: event::SLOT, seq: header.seq, handle, flags, a, b };
            self.send(slot, &[], fds.get(..count).unwrap_or(&[]));
        }
        self.answer(header, 0);
    }

    fn pidns(&mut self, header: Header, mut fds: Fds) {
        if self.pidns_init == 0 {
            let users = fds.take(proto::HAS_INPUT);
            let made = pidns::make(users);
            if let Some(users) = users {
                sys::close(users);
            }
            match made {
                Ok(pid) => self.pidns_init = pid,
                Err(_) => return self.refuse(header, b"the pid namespace could not be made"),
            }
        }
        self.answer(header, i64::from(self.pidns_init));
    }

    /// Handles what a launcher says. False when it says nothing more now.
    fn report(&mut self, index: usize) -> bool {
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let Some(socket) = slot.report.get() else { return false };
        let mut fds = [-1; MAX_FDS];
        match sys::receive(socket, &mut self.packet, &mut fds) {
            Ok((len, count)) if len > 0 => {
                let packet = self.packet.get(..len).unwrap_or(&[]);
                let header = Header::decode(packet).unwrap_or_default();
                let mut fds = Fds::new(fds, count, header.flags);
                match header.kind {
                    report::READY => self.ready(index, header, &mut fds),
                    _ => self.failed(index, None, len),
                }
                true
            }
            Err(sys::EAGAIN | sys::EINTR) => false,
            _ => {
                self.launcher_gone(index);
                false
            }
        }
    }

    fn launcher_gone(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.report.close();
        }
        self.failed(index, Some(b"the launcher ended without a word"), 0);
    }

    fn ready(&mut self, index: usize, header: Header, fds: &mut Fds) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.pid = header.a as i32;
        slot.start_time = header.b;
        slot.state = proto::STATE_RUNNING;
        let tty = fds.take(proto::HAS_TTY);
        let started = Header {
            kind: event::STARTED,
            seq: slot.seq,
            handle: slot.handle,
            flags: if tty.is_some() { proto::HAS_TTY } else { 0 },
            a: header.a,
            b: header.b,
        };
        let (report, exec) = (slot.report.get(), slot.is_exec());
        if let Some(master) = tty {
            self.send(started, &[], &[master]);
            match self.slots.get_mut(index) {
                Some(slot) if !exec => {
                    sys::set_nonblocking(master);
                    let [out, _] = &mut slot.streams;
                    out.source.set(Some(master));
                }
                _ => sys::close(master),
            }
        } else {
            self.send(started, &[], &[]);
        }
        if let Some(report) = report {
            let _ = sys::send(report, [b"g", b"o"], &[]);
        }
        // It may have been killed already, and reaped as a stray.
        let stray = self.strays.iter().find(|stray| stray.0 == header.a as i32).map(|stray| stray.1);
        if let Some(status) = stray {
            self.ended(index, status);
        }
    }

    /// There will be no process. Why is `said`, or lies in `packet`.
    fn failed(&mut self, index: usize, said: Option<&[u8]>, len: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.state != proto::STATE_LAUNCHING {
            return;
        }
        let error = Header { kind: event::ERROR, seq: slot.seq, handle: slot.handle, ..Header::default() };
        slot.clear();
        let text = said.or(self.packet.get(HEADER..len)).unwrap_or(&[]);
        send(&mut self.connection, error, text, &[]);
    }

    fn children(&mut self) {
        while let Ok(Some(pid)) = sys::peek_exited() {
            let status = sys::peek_status(pid).unwrap_or(0);
            let running = |slot: &Slot| slot.pid == pid && slot.state == proto::STATE_RUNNING;
            if let Some(index) = self.slots.iter().take(self.used).position(running) {
                self.ended(index, status);
            } else if let Some(index) =
                self.slots.iter().take(self.used).position(|slot| slot.handle != 0 && slot.launcher == pid)
            {
                // What it said last is still in its socket; the process that it forked may hold the
                // other end, so there need not be an end to read.
                while self.report(index) {}
                self.launcher_gone(index);
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.launcher = 0;
                    // It was killed, perhaps before it let the container begin, which would wait for ever.
                    if status != 0 && slot.state == proto::STATE_RUNNING && !slot.is_exec() {
                        sys::kill(slot.pid, sys::SIGKILL);
                    }
                }
            } else {
                if let Some(stray) = self.strays.get_mut(self.next_stray % STRAYS) {
                    *stray = (pid, status);
                }
                self.next_stray = self.next_stray.wrapping_add(1);
            }
            sys::reap(pid);
        }
    }

    /// A process ended: first its output, then its record, then the news of it.
    fn ended(&mut self, index: usize, status: i32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.drain(&mut self.shared);
        slot.state = proto::STATE_EXITED;
        slot.status = status;
        slot.stdin.close();
        let (handle, pid, exec) = (slot.handle, slot.pid, slot.is_exec());
        let time = sys::now();
        if exec {
            slot.clear();
        } else {
            record(handle, pid, status, time);
        }
        let exited = Header {
            kind: event::EXITED,
            handle,
            a: i64::from(pid),
            b: i64::from(status),
            ..Header::default()
        };
        self.send(exited, &[], &[]);
    }
}

fn send(connection: &mut Fd, header: Header, text: &[u8], fds: &[i32]) {
    if let Some(fd) = connection.get()
        && sys::send(fd, [&header.encode(), text], fds).is_err()
    {
        // A runtime that does not read its events has to begin again with LIST.
        connection.close();
    }
}

fn writable(fd: i32) -> bool {
    let mut poll = [PollFd { fd, events: POLLOUT, revents: 0 }];
    sys::poll_now(&mut poll).is_ok_and(|n| n > 0)
}

/// Writes an exit record beside its place and moves it there, so that it is whole or absent.
fn record(handle: u64, pid: i32, status: i32, time: (i64, i64)) {
    let mut name = [0u8; 17];
    for (i, byte) in name.iter_mut().take(16).enumerate() {
        let digit = (handle >> (60 - 4 * i)) & 15;
        *byte = if digit < 10 { b'0' + digit as u8 } else { b'a' + digit as u8 - 10 };
    }
    let mut temporary = [0u8; 18];
    if let Some((dot, rest)) = temporary.split_first_mut() {
        *dot = b'.';
        rest.copy_from_slice(&name);
    }
    let mut bytes = [0u8; proto::RECORD];
    let fields = [i64::from(pid), i64::from(status), time.0, time.1];
    for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
        to.copy_from_slice(&field.to_ne_bytes());
    }
    if let Ok(fd) = sys::create(proto::FD_RECORDS, &temporary) {
        let whole = sys::write(fd, &bytes).is_ok_and(|n| n == bytes.len());
        sys::close(fd);
        // Half a record is worse than none, which a runtime knows what to make of.
        if whole {
            let _ = sys::rename(proto::FD_RECORDS, &temporary, &name);
        }
    }
}
