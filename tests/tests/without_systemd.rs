//! Where systemd isn't, an init of old starts what `chkconfig` says: natd has it do so, and takes it back.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use natd_tests::boot::bare::Bare;

/// What the package iptables-services of old brings, and what stood in its file; `chkconfig`, which Debian lacks, as in
/// chkconfig(8): links that start a service in some runlevels, and that end it in the others.
const FURNISH: &str = r#"
mkdir -p /etc/natd /etc/init.d /etc/sysconfig /etc/rc1.d /etc/rc3.d
cat >/etc/natd/natd.toml <<END
provider = "none"
[nat]
sources = ["10.10.2.0/24"]
persist = "iptables-services"
firewall = "iptables"
[routes]
interface = "eth1"
[verify]
targets = ["198.51.100.10:80"]
END
cat >/etc/init.d/iptables <<END
#!/bin/sh
case \$1 in
start) iptables-restore </etc/sysconfig/iptables ;;
save) iptables-save >/etc/sysconfig/iptables ;;
esac
END
cat >/etc/sysconfig/iptables <<END
# mine
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -s 192.0.2.0/24 -j DROP
COMMIT
END
chmod 600 /etc/sysconfig/iptables
cat >/usr/sbin/chkconfig <<END
#!/bin/sh
echo "\$@" >>/run/chkconfig.log
case \$2 in
on) rm -f /etc/rc3.d/K92\$1; ln -s ../init.d/\$1 /etc/rc3.d/S08\$1 ;;
off) rm -f /etc/rc3.d/S08\$1; ln -s ../init.d/\$1 /etc/rc3.d/K92\$1 ;;
esac
END
chmod 755 /usr/sbin/chkconfig /etc/init.d/iptables
for level in 1 3; do ln -s ../init.d/iptables /etc/rc$level.d/K92iptables; done
"#;

/// What rc(8) runs in the usual runlevel: parameters of the kernel, then what is to be started.
const BOOT: &str = "
for file in /etc/sysctl.d/90-natd.conf; do
    [ ! -e $file ] || grep -v '^[#;]' $file | while read -r key equals value; do
        echo \"$value\" >\"/proc/sys/$key\" || true
    done
done
for script in /etc/rc3.d/S*; do [ ! -e $script ] || $script start; done";

/// All that natd could have changed.
const FILES: &str = "cd /; find etc -printf '%p %y %m %u %g %l\n' | sort
    find etc -type f | sort | xargs sha256sum
    ls -d run/natd var/lib/natd 2>/dev/null || true";

#[test]
fn chkconfig_starts_what_loads_the_chains_that_natd_has_merged() -> Result<()> {
    let mut machine = Bare::new()?;
    machine.sh(FURNISH)?;
    let before = machine.sh(FILES)?;
    // What somebody has loaded by hand is for this boot, and not for the next.
    machine.sh("iptables -A INPUT -s 192.0.2.77 -j ACCEPT")?;
    machine.natd_ends(0, &["apply"])?;
    let again = machine.natd_ends(0, &["apply"])?;
    ensure!(!again.stdout.contains('✓'), "the second run did something: {again:#?}");
    ensure!(machine.sh("cat /run/chkconfig.log")? == "iptables on\n");
    let saved = machine.sh("cat /etc/sysconfig/iptables")?;
    ensure!(saved.contains("MASQUERADE") && !saved.contains("192.0.2.77"), "{saved}");

    machine.reboot(BOOT)?;
    let stream = machine.wires().stream()?;
    stream.goes_on(20)?;
    ensure!(stream.sources() == [Ipv4Addr::new(10, 10, 1, 10)], "{:?}", stream.sources());
    drop(stream);
    machine.sh("iptables -C FORWARD -s 192.0.2.0/24 -j DROP")?;

    machine.natd_ends(0, &["down"])?;
    ensure!(machine.sh("cat /run/chkconfig.log")? == "iptables on\niptables off\n");
    let after = machine.sh(FILES)?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    Ok(())
}
