#!/usr/bin/env bash
# Prepare a machine of a cluster: the tree in ~/alss_ray is installed, with the tested versions, into ~/alss_ray_env,
# and every later shell, those of Ray's own commands included, finds it and asks for the cluster's token.
set -euo pipefail

[ -d ~/alss_ray_env ] || python3 -m venv ~/alss_ray_env
~/alss_ray_env/bin/pip install --quiet -c ~/alss_ray/cluster/constraints.txt -e ~/alss_ray'[cluster]'
chmod 600 ~/.ray/auth_token
line='export PATH="$HOME/alss_ray_env/bin:$PATH" RAY_AUTH_MODE=token'
grep -qsxF "$line" ~/.bashrc || printf '%s\n' "$line" >> ~/.bashrc
