//! What is measured, and what follows from the way in which the node's disks are divided. Pure.

use super::Condition;
use super::settings::Threshold;

/// What is measured; upstream's names stand in [`Signal::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// The machine's.
    Memory,
    /// What pods together may have.
    PodsMemory,
    NodeDisk,
    NodeInodes,
    ImageDisk,
    ImageInodes,
    ContainerDisk,
    ContainerInodes,
    Pid,
}

impl Signal {
    const ALL: [Self; 9] = [
        Self::Memory,
        Self::PodsMemory,
        Self::NodeDisk,
        Self::NodeInodes,
        Self::ImageDisk,
        Self::ImageInodes,
        Self::ContainerDisk,
        Self::ContainerInodes,
        Self::Pid,
    ];

    /// Such as `memory.available`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::PodsMemory => "allocatableMemory.available",
            Self::NodeDisk => "nodefs.available",
            Self::NodeInodes => "nodefs.inodesFree",
            Self::ImageDisk => "imagefs.available",
            Self::ImageInodes => "imagefs.inodesFree",
            Self::ContainerDisk => "containerfs.available",
            Self::ContainerInodes => "containerfs.inodesFree",
            Self::Pid => "pid.available",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    /// The condition that a node has then.
    pub fn condition(self) -> Condition {
        match self {
            Self::Memory | Self::PodsMemory => Condition::Memory,
            Self::Pid => Condition::Pid,
            _ => Condition::Disk,
        }
    }

    /// The resource that is reclaimed.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory | Self::PodsMemory => "memory",
            Self::NodeDisk | Self::ImageDisk | Self::ContainerDisk => "ephemeral-storage",
            Self::NodeInodes | Self::ImageInodes | Self::ContainerInodes => "inodes",
            Self::Pid => "pids",
        }
    }

    /// Whether it goes before all others.
    pub fn is_memory(self) -> bool {
        self.condition() == Condition::Memory
    }

    /// Whether files count, and not their bytes.
    pub fn is_inodes(self) -> bool {
        self.resource() == "inodes"
    }
}

/// On which file systems things are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disks {
    /// Images, or containers, are on another one than the kubelet's folder.
    pub images: bool,
    /// Containers' own layers are on another one than images (KEP-4191).
    pub split: bool,
}

/// What of a pod is on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Containers' own layers.
    pub layers: bool,
    pub logs: bool,
    pub volumes: bool,
}

/// What can be freed before a pod is given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Free {
    pub containers: bool,
    pub images: bool,
}

impl Disks {
    /// Whose signal a disk's really is: containers' layers are with the images or with everything else.
    fn home(self, signal: Signal) -> Signal {
        let with_images = self.images && !self.split;
        match signal {
            Signal::ContainerDisk if with_images => Signal::ImageDisk,
            Signal::ContainerInodes if with_images => Signal::ImageInodes,
            Signal::ContainerDisk => Signal::NodeDisk,
            Signal::ContainerInodes => Signal::NodeInodes,
            other => other,
        }
    }

    /// What of pods counts when they are ranked.
    pub fn parts(self, signal: Signal) -> Parts {
        let all = Parts { layers: true, logs: true, volumes: true };
        match self.home(signal) {
            Signal::NodeDisk | Signal::NodeInodes => Parts { layers: !self.images || self.split, ..all },
            Signal::ImageDisk | Signal::ImageInodes => match (self.images, self.split) {
                (true, false) => Parts { layers: true, ..Parts::default() },
                // Images are nobody's own.
                (true, true) => Parts::default(),
                (false, _) => all,
            },
            _ => Parts::default(),
        }
    }

    /// What is freed first.
    pub fn free(self, signal: Signal) -> Free {
        let on_node = matches!(self.home(signal), Signal::NodeDisk | Signal::NodeInodes);
        let on_images = matches!(self.home(signal), Signal::ImageDisk | Signal::ImageInodes);
        match (self.images, self.split) {
            (true, false) => Free { containers: on_images, images: on_images },
            (true, true) => Free { containers: on_node, images: on_images },
            (false, _) => Free { containers: on_node || on_images, images: on_node || on_images },
        }
    }

    /// The thresholds with those of containers' disk, which are always those of its home: what is named for it is not
    /// heeded, and told.
    pub fn complete(self, thresholds: &[Threshold]) -> (Vec<Threshold>, Vec<String>) {
        let is_own = |one: &Threshold| self.home(one.signal) != one.signal;
        let hardness = |one: &Threshold| if one.grace.is_some() { "soft" } else { "hard" };
        let named = thresholds.iter().filter(|one| is_own(one));
        let told =
            named.map(|one| format!("found {} for {} eviction. ignoring", one.signal.name(), hardness(one)));
        let told = told.collect();
        let mut all: Vec<Threshold> = thresholds.iter().filter(|one| !is_own(one)).cloned().collect();
        for signal in [Signal::ContainerDisk, Signal::ContainerInodes] {
            let home = self.home(signal);
            let of_home: Vec<Threshold> = all.iter().filter(|one| one.signal == home).cloned().collect();
            all.extend(of_home.into_iter().map(|one| Threshold { signal, ..one }));
        }
        (all, told)
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Amount, Settings};
    use super::*;

    const ONE: Disks = Disks { images: false, split: false };
    const TWO: Disks = Disks { images: true, split: false };
    const SPLIT: Disks = Disks { images: true, split: true };

    #[test]
    fn what_counts_and_what_is_freed_follows_from_the_disks() {
        let parts = |disks: Disks, signal| {
            let Parts { layers, logs, volumes } = disks.parts(signal);
            let names = [("layers", layers), ("logs", logs), ("volumes", volumes)];
            names.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
        };
        let free = |disks: Disks, signal| {
            let Free { containers, images } = disks.free(signal);
            (containers, images)
        };
        for (disks, signal, counted, freed) in [
            (ONE, Signal::NodeDisk, "layers logs volumes", (true, true)),
            (ONE, Signal::ImageInodes, "layers logs volumes", (true, true)),
            (ONE, Signal::ContainerDisk, "layers logs volumes", (true, true)),
            (TWO, Signal::NodeDisk, "logs volumes", (false, false)),
            (TWO, Signal::ImageDisk, "layers", (true, true)),
            (TWO, Signal::ContainerInodes, "layers", (true, true)),
            (SPLIT, Signal::NodeInodes, "layers logs volumes", (true, false)),
            (SPLIT, Signal::ImageDisk, "", (false, true)),
            (SPLIT, Signal::ContainerDisk, "layers logs volumes", (true, false)),
            (ONE, Signal::Memory, "", (false, false)),
            (ONE, Signal::Pid, "", (false, false)),
        ] {
            assert_eq!(parts(disks, signal), counted, "{disks:?} {signal:?}");
            assert_eq!(free(disks, signal), freed, "{disks:?} {signal:?}");
        }
    }

    #[test]
    fn containers_disk_has_the_thresholds_of_the_disk_on_which_it_is() {
        let mut thresholds = Settings::default().thresholds;
        let own = Threshold {
            signal: Signal::ContainerDisk,
            least: Amount::Share(0.5),
            grace: None,
            reclaim: None,
        };
        thresholds.push(own);
        for (disks, least) in [(ONE, 100), (TWO, 150), (SPLIT, 100)] {
            let (all, told) = disks.complete(&thresholds);
            let found: Vec<i64> = all
                .iter()
                .filter(|one| one.signal == Signal::ContainerDisk)
                .map(|one| one.least.of(1000))
                .collect();
            assert_eq!(found, [least], "{disks:?}");
            assert_eq!(told, ["found containerfs.available for hard eviction. ignoring"]);
            assert_eq!(all.iter().filter(|one| one.signal == Signal::ContainerInodes).count(), 1);
        }
    }
}
