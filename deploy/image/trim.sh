#!/usr/bin/env bash
# Removes from the base what no program here needs, and adds the user; used by the Dockerfile alone.
set -euo pipefail
stdlib=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

python -m pip uninstall --quiet --yes --root-user-action ignore pip
rm -rf "$stdlib"/{ensurepip,idlelib,lib2to3,pydoc_data,test,tkinter,turtledemo,turtle.py}
rm -rf "$stdlib"/config-*/*.a "$stdlib"/lib-dynload/_test* "$stdlib"/lib-dynload/xx*
# Headers, and tables of iconv, which Python does not ask.
rm -rf /usr/local/include/* /usr/include/* /usr/lib/*/gconv
find / -xdev -name __pycache__ -prune -exec rm -rf {} +
# Without times, as finish.sh does it.
python -m compileall -q --invalidation-mode unchecked-hash "$stdlib"

# Nobody becomes anybody else here: no-new-privileges, for those who forget to say it.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# Any uid may write there by its group, 0, as OpenShift runs it.
echo 'trainmaster:x:10001:0:trainmaster:/var/lib/trainmaster:/usr/sbin/nologin' >> /etc/passwd
install --directory --owner=10001 --group=0 --mode=0775 /var/lib/trainmaster /var/lib/sandbox

rm -rf /root/.cache /var/cache/* /var/lib/apt/lists/* /var/log/* /tmp/*
