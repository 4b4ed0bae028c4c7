#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The tool under the names of libguestfs' tools prints what those print (tests/samples).
exec "$(dirname "$0")/../samples/check.py" "$IMG"
