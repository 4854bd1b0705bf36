//! The test of ready.c in Rust, on the same client of the socket: reset, admin queue, Identify.
//!
//!     cc -c -o vfio_user.o vfio_user.c && rustc -C link-arg=vfio_user.o ready.rs && ./ready SOCKET

use std::ffi::CString;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{fence, Ordering};

const CAP: u64 = 0x00;
const VS: u64 = 0x08;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1C;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
const CONFIG: u32 = 7;
const COMMAND: u64 = 4;
const MEMORY_AND_BUS_MASTER: u16 = 6;
const ENTRIES: u32 = 16;
/// Where in the memory that the device can access the queues and the data are.
const SQ: usize = 0x1000;
const CQ: usize = 0x2000;
const DATA: usize = 0x3000;

/// `struct device` of vfio_user.h.
#[repr(C)]
struct Device {
    socket: c_int,
    message: u16,
    memory: *mut u8,
    size: usize,
}

extern "C" {
    fn device_open(device: *mut Device, path: *const c_char, memory: usize);
    fn device_close(device: *mut Device);
    fn region_write(device: *mut Device, region: u32, offset: u64, data: *const c_void, length: u32);
    fn read32(device: *mut Device, offset: u64) -> u32;
    fn write32(device: *mut Device, offset: u64, value: u32);
    fn write64(device: *mut Device, offset: u64, value: u64);
}

/// A controller in front of which the driver's steps are tested.
struct Controller {
    device: Device,
}

impl Controller {
    fn open(path: &str) -> Controller {
        let mut device = Device { socket: -1, message: 0, memory: std::ptr::null_mut(), size: 0 };
        let path = CString::new(path).expect("a path without NUL");
        unsafe {
            device_open(&mut device, path.as_ptr(), 1 << 20);
            let command = MEMORY_AND_BUS_MASTER;
            region_write(&mut device, CONFIG, COMMAND, (&command as *const u16).cast(), 2);
        }
        Controller { device }
    }

    fn read(&mut self, offset: u64) -> u32 {
        unsafe { read32(&mut self.device, offset) }
    }

    fn write(&mut self, offset: u64, value: u32) {
        fence(Ordering::SeqCst); // what was written to memory comes before the doorbell
        unsafe { write32(&mut self.device, offset, value) }
    }

    /// Wait for CSTS.RDY as long as CAP.TO says.
    fn wait_ready(&mut self, ready: u32) -> Result<(), String> {
        let units = self.read(CAP) >> 24; // CAP.TO, of 500 ms
        let limit = std::time::Duration::from_millis(500 * u64::from(units));
        let began = std::time::Instant::now();
        while self.read(CSTS) & 1 != ready {
            if began.elapsed() > limit {
                return Err(format!("CSTS.RDY is not {ready} after {limit:?}"));
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        let cc = self.read(CC);
        self.write(CC, cc & !1);
        self.wait_ready(0)?;
        self.write(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        unsafe {
            write64(&mut self.device, ASQ, SQ as u64);
            write64(&mut self.device, ACQ, CQ as u64);
        }
        self.write(CC, 4 << 20 | 6 << 16 | 1);
        self.wait_ready(1)
    }

    /// Identify Controller; return its serial number.
    fn serial(&mut self) -> Result<String, String> {
        let mut entry = [0u32; 16];
        entry[0] = 0x06 | 1 << 16; // Identify, CID 1
        entry[6] = DATA as u32; // PRP1
        entry[10] = 1; // CNS: the controller
        unsafe {
            std::ptr::copy_nonoverlapping(entry.as_ptr().cast(), self.device.memory.add(SQ), 64);
        }
        self.write(DOORBELLS, 1);
        let status = loop {
            let status = unsafe { self.device.memory.add(CQ + 14).cast::<u16>().read_volatile() };
            if status & 1 == 1 {
                break status >> 1; // the phase tag has changed
            }
        };
        if status != 0 {
            return Err(format!("Identify failed: status {status:04x}"));
        }
        self.write(DOORBELLS + 4, 1);
        let bytes = unsafe { std::slice::from_raw_parts(self.device.memory.add(DATA + 4), 20) };
        Ok(String::from_utf8_lossy(bytes).trim_end().to_string())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        unsafe { device_close(&mut self.device) }
    }
}

fn main() -> Result<(), String> {
    let path = std::env::args().nth(1).ok_or("usage: ready SOCKET")?;
    let mut controller = Controller::open(&path);
    controller.start()?;
    let version = controller.read(VS);
    println!("Controller Ready: NVMe {}.{}", version >> 16, version >> 8 & 0xFF);
    println!("serial {}", controller.serial()?);
    Ok(())
}
