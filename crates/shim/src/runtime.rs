//! What the compiler and the kernel expect of a program: an entry point, a panic handler, and the
//! four memory functions that generated code calls.

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor %ebp, %ebp", "and $-16, %rsp", "call {entry}", entry = sym entry, options(att_syntax));

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "bl {entry}", entry = sym entry);

extern "C" fn entry() -> ! {
    crate::main()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::sys::exit(101)
}

/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller keeps to C's contract.
    unsafe { forward(to, from, len) };
    to
}

/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: the caller keeps to C's contract, and a forward copy cannot overwrite its source.
        unsafe { forward(to, from, len) };
    } else {
        let mut i = len;
        while i > 0 {
            i -= 1;
            // SAFETY: below `len`; backwards, because the target lies within the source.
            // The empty assembly keeps the compiler from turning the loop into a call of memmove.
            unsafe {
                *to.add(i) = *from.add(i);
                asm!("", options(nostack, preserves_flags));
            }
        }
    }
    to
}

/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller keeps to C's contract.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, inout("rcx") len => _, in("al") value as u8, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..len {
        // SAFETY: below `len`. The empty assembly keeps this from becoming a call of memset.
        unsafe {
            *to.add(i) = value as u8;
            asm!("", options(nostack, preserves_flags));
        }
    }
    to
}

/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: below `len`. The empty assembly keeps this from becoming a call of memcmp.
        let (a, b) = unsafe {
            asm!("", options(nostack, preserves_flags));
            (*a.add(i), *b.add(i))
        };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// Both ranges are valid, and `to` does not begin within `from`.
unsafe fn forward(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len => _, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..len {
        // SAFETY: below `len`. The empty assembly keeps this from becoming a call of memcpy.
        unsafe {
            *to.add(i) = *from.add(i);
            asm!("", options(nostack, preserves_flags));
        }
    }
}
