# deploy-backupbot.service: backups of volumes. It serves nobody; without a port to ask it has no
# gate, and is left out.
import ../lib/app-module.nix {
  app = "backupbot";
  key = "deploy-backupbot";
  title = "backup bot";
}
