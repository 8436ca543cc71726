#!/usr/bin/python3
"""One BitTorrent client of the shaped benchmark: libtorrent, plain TCP, every peer named to it, no limits of its own.

bittorrent.py FOLDER NAME TORRENT ADDRESS:PORT GO PEER...

Makes TORRENT from FOLDER/NAME where that is whole, and seeds it; says READY. Otherwise says READY, waits until the file GO
is there, downloads into FOLDER from the PEERs, and says DONE; goes on seeding either way.
"""
import os
import sys
import time

import libtorrent

folder, name, torrent, listen, go, *peers = sys.argv[1:]
seeds = os.path.exists(os.path.join(folder, name))
if seeds:
    files = libtorrent.file_storage()
    libtorrent.add_files(files, os.path.join(folder, name))
    made = libtorrent.create_torrent(files, 512 * 1024)
    libtorrent.set_piece_hashes(made, folder)
    with open(torrent, "wb") as out:
        out.write(libtorrent.bencode(made.generate()))

session = libtorrent.session({
    "listen_interfaces": listen,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "out_enc_policy": libtorrent.enc_policy.pe_disabled,
    "in_enc_policy": libtorrent.enc_policy.pe_disabled,
    "unchoke_slots_limit": -1,
    "connection_speed": 500,
    "alert_mask": 0,
})
print("READY", flush=True)
while not seeds and not os.path.exists(go):
    time.sleep(0.005)

parameters = libtorrent.add_torrent_params()
parameters.ti = libtorrent.torrent_info(torrent)
parameters.save_path = folder
parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
if seeds:
    parameters.flags |= libtorrent.torrent_flags.seed_mode
handle = session.add_torrent(parameters)
for peer in peers:
    address, port = peer.rsplit(":", 1)
    handle.connect_peer((address, int(port)))
while not handle.status().is_seeding:
    time.sleep(0.005)
print("DONE", flush=True)
while True:
    time.sleep(60)
