# A module for NixOS, which takes the hardened units from this directory. No NixOS has built it yet: see docs/how-to/nixos.md.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.petasos;
  toml = pkgs.formats.toml { };
  units = pkgs.runCommand "petasos-units" { } ''
    mkdir -p $out/lib/systemd/system
    substitute ${./petasos.service} $out/lib/systemd/system/petasos.service \
      --replace-fail /usr/local/bin/petasos ${lib.getExe cfg.package}
    cp ${./petasos.socket} $out/lib/systemd/system/petasos.socket
  '';
in
{
  options.services.petasos = {
    enable = lib.mkEnableOption "petasos, a hub that is compatible with the Mercure protocol";
    package = lib.mkOption {
      type = lib.types.package;
      description = "The package with the binary petasos.";
    };
    settings = lib.mkOption {
      type = toml.type;
      default = { };
      example = {
        transport = "durable:///var/lib/petasos";
        anonymous = true;
      };
      description = "Settings of the hub. Every user of the machine can read them, so keys belong into keyFile.";
    };
    keyFile = lib.mkOption {
      type = lib.types.path;
      example = "/run/secrets/petasos.env";
      description = "A file with PETASOS_PUBLISHER_KEY=… and PETASOS_SUBSCRIBER_KEY=…, which root alone may read.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.etc."petasos/petasos.toml".source = toml.generate "petasos.toml" cfg.settings;
    systemd.packages = [ units ];
    systemd.sockets.petasos.wantedBy = [ "sockets.target" ];
    systemd.services.petasos = {
      wantedBy = [ "multi-user.target" ];
      # The hub reads the file again, and its streams stay.
      reloadTriggers = [ config.environment.etc."petasos/petasos.toml".source ];
      serviceConfig.EnvironmentFile = cfg.keyFile;
    };
  };
}
