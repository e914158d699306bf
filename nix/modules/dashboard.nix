# deploy-dashboard.service: the dashboard, at https://ci.commoninternet.net.
import ../lib/app-module.nix {
  app = "dashboard";
  key = "deploy-dashboard";
  title = "dashboard";
  host = "ci.commoninternet.net";
  port = 8080;
}
