//! A TUN device (Documentation/networking/tuntap.rst): what is written to it comes in by it. It lives
//! as long as its file descriptor.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use rustix::{
    ioctl::{Setter, ioctl, opcode},
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
};

/// `TUNSETIFF` of `include/uapi/linux/if_tun.h`.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<std::ffi::c_int>(b'T', 202);

/// `IFF_TUN | IFF_NO_PI`: IP packets and nothing before them.
const FLAGS: u16 = 0x1001;

/// `struct ifreq`, as far as `TUNSETIFF` reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

pub(super) struct Tun {
    file: File,
    /// Its interface's index.
    pub(super) index: u32,
}

impl Tun {
    /// Makes the device of that name, of at most 15 bytes, in the calling thread's network namespace.
    pub(super) fn create(path: &Path, name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut request = Request { name: [0; 16], flags: FLAGS, rest: [0; 22] };
        for (place, byte) in request.name.iter_mut().take(15).zip(name.bytes()) {
            *place = byte;
        }
        attach(&file, request)?;
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        Ok(Self { file, index: name_to_index(&any, name)? })
    }

    /// Has a packet come in by it: it is on its way through the host when this returns.
    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write_all(packet)
    }
}

#[expect(
    unsafe_code,
    reason = "a device can't be made without this ioctl, and no safe call has it"
)]
fn attach(file: &File, request: Request) -> io::Result<()> {
    // SAFETY: `TUNSETIFF` takes a pointer to a `struct ifreq`, of 40 bytes, which `Request` is laid
    // out as; the kernel writes nothing outside it.
    unsafe { ioctl(file, Setter::<TUNSETIFF, Request>::new(request)) }?;
    Ok(())
}
