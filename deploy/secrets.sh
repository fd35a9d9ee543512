#!/bin/sh
# Makes what compose.yaml needs to keep secret, in deploy/secrets; run again it changes nothing.
#
# For each user of redis-users.acl a file USER-redis-url; the ACL file has digests of the passwords
# alone. Your key for Encord goes to deploy/secrets/encord-key, which must be readable by uid 10001.
set -eu
cd "$(dirname "$0")"

if [ -e secrets/redis-users.acl ]; then
  echo "secrets.sh: deploy/secrets is there already; delete it, and the volume of Redis, to begin anew"
  exit 0
fi

# The folder is yours alone. The files in it are read by other users of the containers, to which
# compose hands them one by one.
mkdir -p secrets
chmod 700 secrets
umask 022

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
digest() { printf %s "$1" | sha256sum | cut -d' ' -f1; }

random > secrets/grafana-password
while read -r user name rights; do
  if [ "$name" = default ]; then
    echo "$user $name $rights"
    continue
  fi
  password=$(random)
  printf 'redis://%s:%s@redis:6379/0\n' "$name" "$password" > "secrets/$name-redis-url"
  echo "$user $name $rights #$(digest "$password")"
done < redis-users.acl > secrets/redis-users.acl.new
# For the health check: it may say PING and nothing else.
echo 'user health on nopass resetchannels -@all +ping' >> secrets/redis-users.acl.new
mv secrets/redis-users.acl.new secrets/redis-users.acl
echo "secrets.sh: made deploy/secrets; keep it as you keep passwords"
