# deploy-dashboard.service: what https://ci.commoninternet.net shows.
import ../lib/app-module.nix {
  app = "dashboard";
  key = "deploy-dashboard";
  title = "dashboard";
  host = "ci.commoninternet.net";
  port = 8080;
}
