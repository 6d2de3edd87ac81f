#!/bin/bash
# First start of the instance (Amazon Linux 2023): what deploy.sh and a GitHub runner need.
set -euo pipefail
dnf install -y docker git libicu
systemctl enable --now docker
usermod -aG docker ec2-user
# The server's settings: readable by those who may talk to Docker anyway.
install -d -m 750 -g docker /etc/chest-ct
