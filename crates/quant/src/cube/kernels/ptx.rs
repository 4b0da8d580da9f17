//! Instructions of PTX that CubeCL has no words for. Addresses are those of the instructions: 32 bits for the memory that the units of
//! a cube share, 64 for global memory.
//!
//! What an instruction writes is returned as a value, by an operation without effect: another instruction would be given the
//! address of the variable.

#![allow(clippy::identity_op, reason = "see above")]

use cubecl::prelude::*;

use super::Operand;

/// Where words that the units of a cube share are, in bytes.
#[cube]
pub fn shared_address<E: CubePrimitive>(words: &Shared<[E]>) -> u32 {
    // SAFETY: no shared memory of these kernels is empty.
    let pointer = unsafe { words.as_ptr_unchecked() };
    let address: u64;
    gpu_asm!("cvta.to.shared.u64 {address}, {pointer};", address = out(_) address, pointer = mem_in(_) pointer, options(explicit_mem));
    address as u32
}

/// Where a buffer is, in bytes.
#[cube]
pub fn global_address<E: CubePrimitive>(buffer: &[E]) -> u64 {
    // SAFETY: no buffer of these kernels is empty.
    let pointer = unsafe { buffer.as_ptr_unchecked() };
    let address: u64;
    gpu_asm!("cvta.to.global.u64 {address}, {pointer};", address = out(_) address, pointer = mem_in(_) pointer, options(explicit_mem));
    address + 0u64
}

/// Asks for 16 bytes, of which the first `count` are read and the others are zero.
#[cube]
pub fn copy_16(to: u32, from: u64, count: u32) {
    gpu_asm!("cp.async.cg.shared.global.L2::128B [{to}], [{from}], 16, {count};", to = in(_) to, from = in(_) from, count = in(_) count);
}

/// Asks for four bytes, or zeros if `count` is zero.
#[cube]
pub fn copy_4(to: u32, from: u64, count: u32) {
    gpu_asm!("cp.async.ca.shared.global [{to}], [{from}], 4, {count};", to = in(_) to, from = in(_) from, count = in(_) count);
}

/// What was asked for since the last call belongs together.
#[cube]
pub fn commit_copies() {
    gpu_asm!("cp.async.commit_group;");
}

/// Waits until at most this many of the last groups are in flight.
#[cube]
pub fn wait_for_copies(#[comptime] under_way: usize) {
    gpu_asm!("cp.async.wait_group {under_way};");
}

/// A word that other units wrote, or a copy.
#[cube]
pub fn read_word(address: u32) -> u32 {
    let value: u32;
    gpu_asm!("ld.shared.u32 {value}, [{address}];", value = out(_) value, address = in(_) address, options(readonly));
    value | 0u32
}

/// Two words.
#[cube]
pub fn read_2_words(address: u32) -> Vector<u32, Const<2>> {
    let value: Vector<u32, Const<2>>;
    gpu_asm!("ld.shared.v2.u32 {value}, [{address}];", value = out(_) value, address = in(_) address, options(readonly));
    value
}

/// Writes a number that other units read.
#[cube]
pub fn write_float(address: u32, value: f32) {
    gpu_asm!("st.shared.f32 [{address}], {value};", address = in(_) address, value = in(_) value);
}

/// A byte of a word in the place of the second byte of `rest`, whose other bytes stay.
#[cube]
pub fn with_second_byte(rest: u32, word: u32, #[comptime] byte: usize) -> u32 {
    let selector = comptime!(0x7604 + 16 * byte);
    let value: u32;
    gpu_asm!("prmt.b32 {value}, {word}, {rest}, {selector};", value = out(_) value, word = in(_) word, rest = in(_) rest, options(pure, nomem));
    value | 0u32
}

/// A byte of a word.
#[cube]
pub fn byte_of(word: u32, #[comptime] byte: usize) -> u32 {
    let selector = comptime!(0x4440 + byte);
    let value: u32;
    gpu_asm!("prmt.b32 {value}, {word}, 0, {selector};", value = out(_) value, word = in(_) word, options(pure, nomem));
    value | 0u32
}

/// A word of memory that does not change any more: the compiler may move it.
#[cube]
pub fn look_up(address: u32) -> u32 {
    let value: u32;
    gpu_asm!("ld.shared.u32 {value}, [{address}];", value = out(_) value, address = in(_) address, options(pure, nomem));
    value | 0u32
}

/// Two words of memory that does not change any more.
#[cube]
pub fn look_up_2(address: u32) -> Vector<u32, Const<2>> {
    let value: Vector<u32, Const<2>>;
    gpu_asm!("ld.shared.v2.u32 {value}, [{address}];", value = out(_) value, address = in(_) address, options(pure, nomem));
    value
}

/// `a b + c` for 16 x 16 by 16 x 8, sums in float32. The registers are those of PTX's `mma.m16n8k16`.
#[cube]
#[allow(clippy::too_many_arguments, reason = "registers")]
pub fn multiply(
    a0: u32,
    a1: u32,
    a2: u32,
    a3: u32,
    b0: u32,
    b1: u32,
    c: Vector<f32, Const<4>>,
    #[comptime] operand: Operand,
) -> Vector<f32, Const<4>> {
    let dtype = comptime!(operand.ptx());
    let (open, close) = comptime!(("{", "}"));
    let out: Vector<f32, Const<4>>;
    gpu_asm!(
        "mma.sync.aligned.m16n8k16.row.col.f32.{dtype}.{dtype}.f32 {d}, {open}{a0}, {a1}, {a2}, {a3}{close}, {open}{b0}, {b1}{close}, {c};",
        a0 = in(_) a0, a1 = in(_) a1, a2 = in(_) a2, a3 = in(_) a3, b0 = in(_) b0, b1 = in(_) b1, c = in(_) c, d = out(_) out,
        options(pure, nomem),
    );
    out
}
